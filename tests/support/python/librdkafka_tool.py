"""librdkafka at the service of a test: the `write` and `read` commands of Tool.java, in the same words.

usage: librdkafka_tool.py BOOTSTRAP_SERVERS    (one JSON command per line on stdin, one JSON answer per line on stdout)
"""

import base64
import json
import sys
import time

from confluent_kafka import Consumer, Producer, TopicPartition


def unpacked(text):
    return None if text is None else base64.b64decode(text)


def write(servers, command):
    ends = command.get("transaction")
    settings = {
        "bootstrap.servers": servers,
        "compression.type": command["codec"],
        "acks": "all",
        "linger.ms": 5,
    }
    if ends:
        settings["transactional.id"] = f"librdkafka-{command['topic']}-{time.monotonic_ns()}"
    producer = Producer(settings)
    if ends:
        producer.init_transactions(60)
        producer.begin_transaction()

    records = command["records"]
    places = [None] * len(records)
    failures = []

    def delivered(index):
        def report(error, message):
            if error is not None:
                failures.append(f"record {index}: {error}")
            else:
                places[index] = [message.partition(), message.offset(), message.timestamp()[1]]

        return report

    for index, record in enumerate(records):
        producer.produce(
            command["topic"],
            partition=record["partition"],
            timestamp=record["timestamp"],
            key=unpacked(record["key"]),
            value=unpacked(record["value"]),
            headers=[(name, unpacked(value)) for name, value in record["headers"]],
            on_delivery=delivered(index),
        )
    left = producer.flush(60)
    if left or failures:
        raise RuntimeError(f"{left} records not delivered; {failures}")
    if ends == "commit":
        producer.commit_transaction(60)
    elif ends == "abort":
        producer.abort_transaction(60)
    return {"places": places}


def packed(data):
    return None if data is None else base64.b64encode(data).decode()


def read(servers, command):
    topic = command["topic"]
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "read", "check.crcs": True})
    partitions = consumer.list_topics(topic, timeout=60).topics[topic].partitions
    ends = {index: consumer.get_watermark_offsets(TopicPartition(topic, index), timeout=60)[1] for index in partitions}
    consumer.assign([TopicPartition(topic, index, 0) for index in partitions])
    records, positions = [], dict.fromkeys(partitions, 0)
    while any(positions[index] < ends[index] for index in partitions):
        message = consumer.poll(60)
        if message is None or message.error():
            raise RuntimeError(f"{len(records)} records read, then {message and message.error()}")
        positions[message.partition()] = message.offset() + 1
        headers = [[name, packed(value)] for name, value in message.headers() or []]
        place = [message.partition(), message.offset(), message.timestamp()[1]]
        records.append(place + [packed(message.key()), packed(message.value()), headers])
    consumer.close()
    return {"records": records}


def main():
    servers = sys.argv[1]
    for line in sys.stdin:
        command = json.loads(line)
        try:
            match command["do"]:
                case "write":
                    answer = write(servers, command)
                case "read":
                    answer = read(servers, command)
                case unknown:
                    raise ValueError(f"unknown command {unknown}")
        except Exception as failure:  # whatever it is, the test must hear of it
            answer = {"error": f"{type(failure).__name__}: {failure}"}
        print(json.dumps(answer), flush=True)


main()
