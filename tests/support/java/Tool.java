import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.NewPartitionReassignment;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.ScramCredentialInfo;
import org.apache.kafka.clients.admin.ScramMechanism;
import org.apache.kafka.clients.admin.UserScramCredentialUpsertion;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.tools.consumer.group.ConsumerGroupCommand;

/**
 * Kafka's own Java client at the service of a test: one JSON command per line on stdin, one JSON answer per line on
 * stdout ({@code {"error": …}} when it failed). It ends with its stdin, so it cannot outlive the test.
 *
 * <pre>Tool BOOTSTRAP_SERVERS</pre>
 *
 * {@code write} and {@code read} are understood by librdkafka_tool.py too, in the same words: the tests say what to
 * write and compare what was read, the clients only say where it went and what is there.
 */
public final class Tool {
    private static final ObjectMapper JSON = new ObjectMapper();
    private final String servers;
    private final Admin admin;
    private KafkaConsumer<byte[], byte[]> member;

    private Tool(String servers) {
        this.servers = servers;
        this.admin = Admin.create(Map.of("bootstrap.servers", servers));
    }

    public static void main(String[] arguments) throws Exception {
        PrintStream answers = System.out;
        System.setOut(System.err);
        Tool tool = new Tool(arguments[0]);
        var commands = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = commands.readLine(); line != null; line = commands.readLine()) {
            answers.println(JSON.writeValueAsString(tool.answer(JSON.readTree(line))));
            answers.flush();
        }
        System.exit(0);
    }

    private JsonNode answer(JsonNode command) {
        try {
            return switch (command.get("do").asText()) {
                case "create-topic" -> createTopic(command);
                case "delete-topic" -> deleteTopic(command);
                case "add-partitions" -> addPartitions(command);
                case "move-leaders" -> moveLeaders(command);
                case "ends" -> ends(command);
                case "delete-records" -> deleteRecords(command);
                case "committed" -> committed(command);
                case "set-committed" -> setCommitted(command);
                case "group" -> group(command);
                case "set-password" -> setPassword(command);
                case "bulk" -> bulk(command);
                case "write" -> write(command);
                case "read" -> read(command);
                case "join" -> join(command);
                case "leave" -> leave();
                case "describe-group" -> describeGroup(command);
                default -> throw new IllegalArgumentException("unknown command " + command.get("do"));
            };
        } catch (ExecutionException failure) {
            return error(failure.getCause());
        } catch (Exception failure) {
            return error(failure);
        }
    }

    private static ObjectNode error(Throwable failure) {
        return JSON.createObjectNode().put("error", failure.toString());
    }

    // ---- topics and groups

    private JsonNode createTopic(JsonNode command) throws Exception {
        Map<String, String> settings = new HashMap<>();
        command.path("config").properties().forEach(entry -> settings.put(entry.getKey(), entry.getValue().asText()));
        short replicas = (short) command.path("replicas").asInt(1);
        NewTopic topic = new NewTopic(topicOf(command), command.get("partitions").asInt(), replicas).configs(settings);
        admin.createTopics(List.of(topic)).all().get();
        waitUntilServed(topic.name(), topic.numPartitions());
        return JSON.createObjectNode();
    }

    private JsonNode deleteTopic(JsonNode command) throws Exception {
        admin.deleteTopics(List.of(topicOf(command))).all().get();
        return JSON.createObjectNode();
    }

    private JsonNode addPartitions(JsonNode command) throws Exception {
        var count = NewPartitions.increaseTo(command.get("partitions").asInt());
        admin.createPartitions(Map.of(topicOf(command), count)).all().get();
        waitUntilServed(topicOf(command), count.totalCount());
        return JSON.createObjectNode();
    }

    /** Makes a broker the preferred leader of all partitions of a topic, and their leader. */
    private JsonNode moveLeaders(JsonNode command) throws Exception {
        String topic = topicOf(command);
        int leader = command.get("to").asInt();
        Map<TopicPartition, Optional<NewPartitionReassignment>> moves = new HashMap<>();
        for (var partition : admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions()) {
            List<Integer> order = new ArrayList<>(partition.replicas().stream().map(Node::id).toList());
            order.remove((Integer) leader);
            order.add(0, leader);
            moves.put(new TopicPartition(topic, partition.partition()), Optional.of(new NewPartitionReassignment(order)));
        }
        admin.alterPartitionReassignments(moves).all().get();
        admin.electLeaders(ElectionType.PREFERRED, moves.keySet()).partitions().get();
        return JSON.createObjectNode();
    }

    /**
     * The controller answers before the broker leads the new partitions. What a producer sends to them meanwhile was seen
     * to lie unsent until it expired after two minutes.
     */
    private void waitUntilServed(String topic, int partitions) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
        while (System.nanoTime() < deadline) {
            try {
                if (ends(JSON.createObjectNode().put("topic", topic)).get("ends").size() == partitions) {
                    return;
                }
            } catch (ExecutionException unknownYet) {
                // the next round will tell
            }
            Thread.sleep(10);
        }
        throw new TimeoutException("no leader for each of the " + partitions + " partitions of " + topic);
    }

    /** The log end of each partition, in order. */
    private JsonNode ends(JsonNode command) throws Exception {
        String topic = topicOf(command);
        int partitions = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size();
        Map<TopicPartition, OffsetSpec> wanted = new HashMap<>();
        for (int partition = 0; partition < partitions; partition++) {
            wanted.put(new TopicPartition(topic, partition), OffsetSpec.latest());
        }
        var offsets = admin.listOffsets(wanted).all().get();
        ArrayNode ends = JSON.createArrayNode();
        for (int partition = 0; partition < partitions; partition++) {
            ends.add(offsets.get(new TopicPartition(topic, partition)).offset());
        }
        return JSON.createObjectNode().set("ends", ends);
    }

    private JsonNode deleteRecords(JsonNode command) throws Exception {
        var partition = new TopicPartition(topicOf(command), command.get("partition").asInt());
        var before = RecordsToDelete.beforeOffset(command.get("before").asLong());
        admin.deleteRecords(Map.of(partition, before)).all().get();
        return JSON.createObjectNode();
    }

    /** Makes a SCRAM user, or gives it another password. */
    private JsonNode setPassword(JsonNode command) throws Exception {
        var mechanism = ScramMechanism.fromMechanismName(command.get("mechanism").asText());
        var upsertion = new UserScramCredentialUpsertion(
                command.get("user").asText(),
                new ScramCredentialInfo(mechanism, 4096),
                command.get("password").asText());
        admin.alterUserScramCredentials(List.of(upsertion)).all().get();
        return JSON.createObjectNode();
    }

    /** What the group has committed, as [[topic, partition, offset], …] in order. */
    private JsonNode committed(JsonNode command) throws Exception {
        String group = command.get("group").asText();
        ArrayNode positions = JSON.createArrayNode();
        admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().entrySet().stream()
                .sorted((a, b) -> a.getKey().toString().compareTo(b.getKey().toString()))
                .forEach(entry -> positions.addArray().add(entry.getKey().topic()).add(entry.getKey().partition())
                        .add(entry.getValue().offset()));
        return JSON.createObjectNode().set("committed", positions);
    }

    private JsonNode setCommitted(JsonNode command) throws Exception {
        var partition = new TopicPartition(topicOf(command), command.get("partition").asInt());
        var offset = new OffsetAndMetadata(command.get("offset").asLong());
        admin.alterConsumerGroupOffsets(command.get("group").asText(), Map.of(partition, offset)).all().get();
        return JSON.createObjectNode();
    }

    /** How many partitions each member of the group holds; a group that is not there has no member. */
    private JsonNode group(JsonNode command) throws Exception {
        String id = command.get("group").asText();
        ArrayNode members = JSON.createArrayNode();
        try {
            ConsumerGroupDescription group = admin.describeConsumerGroups(List.of(id)).all().get().get(id);
            group.members().forEach(member -> members.add(member.assignment().topicPartitions().size()));
        } catch (ExecutionException failure) {
            if (!(failure.getCause() instanceof GroupIdNotFoundException)) {
                throw failure;
            }
        }
        return JSON.createObjectNode().set("members", members);
    }

    /** Becomes a member of the group, and stays one until told to leave. Answers with the partitions it was given. */
    private JsonNode join(JsonNode command) throws Exception {
        Map<String, Object> settings = new HashMap<>(Map.of("group.id", command.get("group").asText(),
                "client.id", "java-member", "enable.auto.commit", false));
        // The broker before 4.0 knows one protocol only, and its client has no such setting to be told of.
        if (command.get("protocol").asText().equals("consumer")) {
            settings.put("group.protocol", "consumer");
        }
        member = consumer(settings);
        member.subscribe(List.of(topicOf(command)));
        for (int attempt = 0; attempt < 600 && member.assignment().isEmpty(); attempt++) {
            member.poll(Duration.ofMillis(100));
        }
        ArrayNode partitions = JSON.createArrayNode();
        member.assignment().stream().map(TopicPartition::partition).sorted().forEach(partitions::add);
        return JSON.createObjectNode().set("partitions", partitions);
    }

    private JsonNode leave() {
        member.close();
        return JSON.createObjectNode();
    }

    /** What Kafka's own ConsumerGroupCommand prints of the group's partitions, line by line. */
    private JsonNode describeGroup(JsonNode command) throws Exception {
        PrintStream before = System.out;
        var printed = new ByteArrayOutputStream();
        System.setOut(new PrintStream(printed, true, StandardCharsets.UTF_8));
        try {
            ConsumerGroupCommand.main(new String[] {"--bootstrap-server", servers, "--describe", "--group",
                    command.get("group").asText()});
        } finally {
            System.setOut(before);
        }
        ArrayNode lines = JSON.createArrayNode();
        printed.toString(StandardCharsets.UTF_8).lines().forEach(lines::add);
        return JSON.createObjectNode().set("lines", lines);
    }

    // ---- records

    /** Numbered records of one size, dealt to the partitions in turn: {"seq":17,"pad":"xxx…"} with the key k17. */
    private JsonNode bulk(JsonNode command) throws Exception {
        String topic = topicOf(command);
        long first = command.path("first").asLong(0);
        long count = command.get("records").asLong();
        int partitions = command.get("partitions").asInt();
        int size = command.get("size").asInt();
        var failure = new AtomicReference<Exception>();
        try (var producer = producer(Map.of("compression.type", command.get("codec").asText()))) {
            for (long sequence = first; sequence < first + count; sequence++) {
                byte[] key = ("k" + sequence).getBytes(StandardCharsets.UTF_8);
                var record = new ProducerRecord<>(topic, (int) (sequence % partitions), key, padded(sequence, size));
                producer.send(record, (place, error) -> failure.compareAndSet(null, error));
            }
            producer.flush();
        }
        if (failure.get() != null) {
            throw failure.get();
        }
        return JSON.createObjectNode().put("written", count);
    }

    private static byte[] padded(long sequence, int size) {
        byte[] head = ("{\"seq\":" + sequence + ",\"pad\":\"").getBytes(StandardCharsets.UTF_8);
        byte[] value = new byte[Math.max(size, head.length + 2)];
        java.util.Arrays.fill(value, (byte) 'x');
        System.arraycopy(head, 0, value, 0, head.length);
        value[value.length - 2] = '"';
        value[value.length - 1] = '}';
        return value;
    }

    /**
     * Writes the records of "steps" in order, in one transaction when "transaction" says how it ends ("commit" or
     * "abort"), and answers with the place of each: [[partition, offset, timestamp], …].
     */
    private JsonNode write(JsonNode command) throws Exception {
        Map<String, Object> settings = new HashMap<>(Map.of("compression.type", command.get("codec").asText()));
        JsonNode end = command.path("transaction");
        if (end.isTextual()) {
            settings.put("transactional.id", "java-" + topicOf(command) + "-" + System.nanoTime());
        }
        try (var producer = producer(settings)) {
            if (end.isTextual()) {
                producer.initTransactions();
                producer.beginTransaction();
            }
            List<Future<RecordMetadata>> written = new ArrayList<>();
            for (JsonNode record : command.get("records")) {
                written.add(producer.send(recordOf(topicOf(command), record)));
            }
            producer.flush();
            ArrayNode places = JSON.createArrayNode();
            for (Future<RecordMetadata> one : written) {
                RecordMetadata place = one.get();
                places.addArray().add(place.partition()).add(place.offset()).add(place.timestamp());
            }
            if (end.isTextual() && end.asText().equals("commit")) {
                producer.commitTransaction();
            } else if (end.isTextual()) {
                producer.abortTransaction();
            }
            return JSON.createObjectNode().set("places", places);
        }
    }

    /** Every record of the topic, each as [partition, offset, timestamp, key, value, [[name, value], …]] in base64. */
    private JsonNode read(JsonNode command) throws Exception {
        String topic = topicOf(command);
        ArrayNode records = JSON.createArrayNode();
        try (var consumer = consumer(Map.of())) {
            List<TopicPartition> partitions = consumer.partitionsFor(topic).stream()
                    .map(of -> new TopicPartition(topic, of.partition())).toList();
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            while (partitions.stream().anyMatch(of -> consumer.position(of) < ends.get(of))) {
                consumer.poll(Duration.ofMillis(100)).forEach(record -> records.add(recordRead(record)));
            }
        }
        return JSON.createObjectNode().set("records", records);
    }

    private static JsonNode recordRead(ConsumerRecord<byte[], byte[]> record) {
        ArrayNode headers = JSON.createArrayNode();
        for (Header header : record.headers()) {
            headers.addArray().add(header.key()).add(header.value());
        }
        return JSON.createArrayNode().add(record.partition()).add(record.offset()).add(record.timestamp())
                .add(record.key()).add(record.value()).add(headers);
    }

    private static ProducerRecord<byte[], byte[]> recordOf(String topic, JsonNode record) throws Exception {
        JsonNode said = record.get("partition");
        Integer partition = said.isNull() ? null : said.asInt();
        long timestamp = record.get("timestamp").asLong();
        var built = new ProducerRecord<>(topic, partition, timestamp, bytes(record.get("key")), bytes(record.get("value")));
        for (JsonNode header : record.get("headers")) {
            built.headers().add(header.get(0).asText(), bytes(header.get(1)));
        }
        return built;
    }

    private static byte[] bytes(JsonNode base64) throws Exception {
        return base64.isNull() ? null : base64.binaryValue();
    }

    private KafkaConsumer<byte[], byte[]> consumer(Map<String, ?> settings) {
        Map<String, Object> all = new HashMap<>(Map.of("bootstrap.servers", servers, "auto.offset.reset", "earliest"));
        all.putAll(settings);
        return new KafkaConsumer<>(all, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private KafkaProducer<byte[], byte[]> producer(Map<String, ?> settings) {
        Map<String, Object> all = new HashMap<>(Map.of("bootstrap.servers", servers, "acks", "all", "linger.ms", 5,
                "batch.size", 256 * 1024, "buffer.memory", 64L * 1024 * 1024, "max.request.size", 40 * 1024 * 1024));
        all.putAll(settings);
        return new KafkaProducer<>(all, new ByteArraySerializer(), new ByteArraySerializer());
    }

    /** For the broker's warm-up: loads the classes that producing needs. */
    static void produceOne(String servers, String topic) throws Exception {
        Tool tool = new Tool(servers);
        try (var producer = tool.producer(Map.of())) {
            producer.send(new ProducerRecord<>(topic, new byte[1])).get();
        }
        JSON.writeValueAsString(tool.ends(JSON.createObjectNode().put("topic", topic)));
        tool.admin.close();
    }

    private static String topicOf(JsonNode command) {
        return command.get("topic").asText();
    }
}
