import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.ServerSocket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;

/**
 * A real Kafka, broker and controller in one JVM, that cannot outlive whoever started it: it watches its stdin.
 *
 * <pre>Broker DIRECTORY PORT CONTROLLER_PORT [key=value...]   (further server properties; the last one wins)
 * Broker --warm-up DIRECTORY                              start, answer once, stop: fills a class-data archive</pre>
 *
 * The line {@code stop} on stdin shuts Kafka down cleanly; the data stay and the next start goes on with them. The end
 * of stdin means that the owner is gone, killed perhaps: the directory is removed and the JVM halts.
 */
public final class Broker {
    private static final String CLUSTER_ID = "a29uZWt0LWNoZWNrLTAwMA";

    public static void main(String[] arguments) throws Exception {
        boolean warmUp = arguments[0].equals("--warm-up");
        Path directory = Path.of(arguments[warmUp ? 1 : 0]).toAbsolutePath();
        int port = warmUp ? freePort() : Integer.parseInt(arguments[1]);
        int controllerPort = warmUp ? freePort() : Integer.parseInt(arguments[2]);
        List<String> extra = warmUp ? List.of() : List.of(arguments).subList(3, arguments.length);

        Path properties = writeProperties(directory, port, controllerPort, extra);
        if (!Files.exists(directory.resolve("data/meta.properties"))) {
            format(properties, !extra.contains("process.roles=broker"));
        }
        Thread watcher = warmUp ? new Thread(() -> answerOnceAndStop(port)) : new Thread(() -> obeyStdin(directory));
        watcher.setDaemon(true);
        watcher.start();
        kafka.Kafka.main(new String[] {properties.toString()});
    }

    private static Path writeProperties(Path directory, int port, int controllerPort, List<String> extra) throws IOException {
        List<String> lines = new ArrayList<>(List.of(
                "process.roles=broker,controller",
                "node.id=1",
                "controller.quorum.bootstrap.servers=127.0.0.1:" + controllerPort,
                "controller.listener.names=CONTROLLER",
                "listeners=PLAINTEXT://127.0.0.1:" + port + ",CONTROLLER://127.0.0.1:" + controllerPort,
                "advertised.listeners=PLAINTEXT://127.0.0.1:" + port,
                "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
                "inter.broker.listener.name=PLAINTEXT",
                "log.dirs=" + directory.resolve("data"),
                "num.network.threads=2",
                "num.io.threads=4",
                "offsets.topic.num.partitions=4",
                "offsets.topic.replication.factor=1",
                "transaction.state.log.num.partitions=4",
                "transaction.state.log.replication.factor=1",
                "transaction.state.log.min.isr=1",
                "group.initial.rebalance.delay.ms=0",
                "group.min.session.timeout.ms=1000",
                "auto.create.topics.enable=false",
                "log.retention.hours=-1"));
        lines.addAll(extra);
        Files.createDirectories(directory);
        return Files.write(directory.resolve("server.properties"), lines);
    }

    /** A node that is a controller begins a quorum of its own; one that is none finds it by its settings. */
    private static void format(Path properties, boolean isController) {
        List<String> arguments =
                new ArrayList<>(List.of("format", "--cluster-id", CLUSTER_ID, "--config", properties.toString()));
        if (isController) {
            arguments.add("--standalone");
        }
        int status = kafka.tools.StorageTool.execute(arguments.toArray(String[]::new), System.err);
        if (status != 0) {
            throw new IllegalStateException("formatting the storage failed with status " + status);
        }
    }

    private static void obeyStdin(Path directory) {
        try (var lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8))) {
            if ("stop".equals(lines.readLine())) {
                System.exit(0);
            }
        } catch (IOException gone) {
            // the same as the end of stdin
        }
        removeTree(directory);
        Runtime.getRuntime().halt(1);
    }

    private static void removeTree(Path directory) {
        try (var paths = Files.walk(directory)) {
            paths.sorted(Comparator.reverseOrder()).forEach(path -> path.toFile().delete());
        } catch (IOException | java.io.UncheckedIOException leftOver) {
            System.err.println("cannot remove " + directory + ": " + leftOver);
        }
    }

    private static void answerOnceAndStop(int port) {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", "127.0.0.1:" + port))) {
            admin.createTopics(List.of(new NewTopic("warm-up", 1, (short) 1))).all().get();
            Tool.produceOne("127.0.0.1:" + port, "warm-up");
            System.exit(0);
        } catch (Exception failure) {
            failure.printStackTrace();
            System.exit(1);
        }
    }

    private static int freePort() throws IOException {
        try (ServerSocket socket = new ServerSocket(0)) {
            return socket.getLocalPort();
        }
    }
}
