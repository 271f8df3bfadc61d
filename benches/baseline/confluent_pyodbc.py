"""The usual Python way from Kafka into a database, as a baseline: confluent-kafka, pyodbc with fast_executemany, a thread
per connection, one transaction per batch, offsets committed after the database (so at least once).

usage: confluent_pyodbc.py BOOTSTRAP_SERVERS TOPIC RECORDS CONNECTION_STRING [BATCH] [CONNECTIONS]

Prints seconds from the first poll to the last commit, and CPU seconds of this process.
"""

import json
import queue
import sys
import threading
import time
import uuid
from datetime import datetime, timezone

import pyodbc
from confluent_kafka import Consumer, TopicPartition

INSERT = """INSERT INTO processed_messages (id, topic, "partition", "offset", message_key, message_value, message_headers,
    consumer_group, processing_timestamp, processing_status) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
CREATE = """CREATE TABLE processed_messages (id VARCHAR(36) NOT NULL PRIMARY KEY, topic VARCHAR(255) NOT NULL,
    "partition" INT NOT NULL, "offset" BIGINT NOT NULL, message_key TEXT, message_value TEXT NOT NULL, message_headers TEXT,
    consumer_group VARCHAR(255) NOT NULL, processing_timestamp TIMESTAMPTZ NOT NULL,
    processing_status VARCHAR(50) NOT NULL, error_message TEXT)"""
INDEX = 'CREATE INDEX by_offset ON processed_messages (topic, "partition", "offset")'


def row_of(message, group, now):
    headers = message.headers()
    return (
        str(uuid.uuid4()),
        message.topic(),
        message.partition(),
        message.offset(),
        (message.key() or b"").decode(),
        (message.value() or b"").decode(),
        json.dumps({name: value.decode() for name, value in headers}) if headers else None,
        group,
        now,
        "SUCCESS",
    )


def write(connection_string, batches, done):
    connection = pyodbc.connect(connection_string, autocommit=False)
    cursor = connection.cursor()
    cursor.fast_executemany = True
    while (messages := batches.get()) is not None:
        now = datetime.now(timezone.utc).replace(tzinfo=None)
        cursor.executemany(INSERT, [row_of(message, "baseline", now) for message in messages])
        connection.commit()
        done.put(messages)
    connection.close()


def main():
    servers, topic, records, connection_string = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
    batch = int(sys.argv[5]) if len(sys.argv) > 5 else 1000
    connections = int(sys.argv[6]) if len(sys.argv) > 6 else 4
    with pyodbc.connect(connection_string, autocommit=True) as connection:
        connection.execute(CREATE)
        connection.execute(INDEX)

    batches, done = queue.Queue(2 * connections), queue.Queue()
    writers = [threading.Thread(target=write, args=(connection_string, batches, done)) for _ in range(connections)]
    for writer in writers:
        writer.start()
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": f"baseline-{uuid.uuid4()}",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            # Its default of a second makes consuming four times slower.
            "fetch.queue.backoff.ms": 10,
        }
    )
    consumer.subscribe([topic])
    started, taken, written = time.monotonic(), 0, 0
    while written < records:
        messages = consumer.consume(batch, timeout=0.1) if taken < records else []
        if messages:
            taken += len(messages)
            batches.put(messages)
        try:
            ready = done.get(block=taken >= records)
            written += len(ready)
            ends = {}
            for message in ready:
                ends[message.partition()] = message.offset() + 1
            consumer.commit(offsets=[TopicPartition(topic, p, o) for p, o in ends.items()], asynchronous=True)
        except queue.Empty:
            pass
    seconds = time.monotonic() - started
    for _ in writers:
        batches.put(None)
    for writer in writers:
        writer.join()
    consumer.close()
    print(f"{seconds:.3f} {time.process_time():.3f}")


main()
