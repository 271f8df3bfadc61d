//! The files that set everything up: docker-compose.yml, Dockerfile and deploy/. They are parsed, compared with each other,
//! with .env.example and with what the program reads, and their scripts are run as far as that goes without containers.

mod man;
mod scripts;
mod service;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use konekt::config::field::{Command, Field, fields};
use regex::Regex;
use serde_json::Value;

const COMPOSE: &str = "docker-compose.yml";
const COMPOSE_MONGO: &str = "deploy/docker-compose-mongo.yaml";
const KUBERNETES: &str = "deploy/kubernetes.yaml";

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn yaml(name: &str) -> Value {
    serde_saphyr::from_str(&text(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The services of a compose file, with their names.
fn services(compose: &Value) -> impl Iterator<Item = (&String, &Value)> {
    compose["services"].as_object().expect("there are services").iter()
}

fn keys(object: &Value) -> BTreeSet<&str> {
    object.as_object().into_iter().flat_map(|object| object.keys().map(String::as_str)).collect()
}

fn strings(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// The names in .env.example, those that are commented out too, and the values given.
fn example() -> Vec<(String, Option<String>)> {
    let line = Regex::new(r"(?m)^(# )?([A-Z][A-Z0-9_]+)=(.*)$").expect("a pattern");
    let named = |found: regex::Captures<'_>| (found[2].to_owned(), found.get(1).is_none().then(|| found[3].to_owned()));
    line.captures_iter(&text(".env.example")).map(named).collect()
}

/// Every `${NAME…}` of a file, but those that are escaped.
fn variables_of(name: &str) -> BTreeSet<String> {
    let variable = Regex::new(r"(?:^|[^$])\$\{([A-Z0-9_]+)").expect("a pattern");
    variable.captures_iter(&text(name)).map(|found| found[1].to_owned()).collect()
}

/// Whether `konekt sink sqlserver` reads this variable.
fn is_setting(variable: &str) -> bool {
    let reads = |field: &&Field| field.variables.contains(&variable) && field.belongs_to(Command::SqlServer);
    fields().any(|field| reads(&field))
}

/// `512m`, `2g` in MiB.
fn mebibytes(size: &str) -> u64 {
    let (number, unit) = size.split_at(size.len() - 1);
    let number: u64 = number.parse().unwrap_or_else(|_| panic!("{size} is no size"));
    match unit {
        "m" => number,
        "g" => number * 1024,
        _ => panic!("{size} is no size"),
    }
}

#[test]
fn every_service_has_its_place_its_ports_and_its_check() {
    // service, what its image's name has, published port, what its health check runs
    let expected: [(&str, &str, &str, Option<&str>, &str); 13] = [
        (COMPOSE, "zookeeper", "cp-zookeeper:", None, "srvr"),
        (COMPOSE, "kafka", "cp-kafka:", Some("9092"), "kafka-broker-api-versions"),
        (COMPOSE, "kafka-kraft", "cp-kafka:", Some("9092"), "kafka-broker-api-versions"),
        (COMPOSE, "schema-registry", "cp-schema-registry:", Some("8081"), "curl"),
        (COMPOSE, "kafka-connect", "cp-kafka-connect:", Some("8083"), "curl"),
        (COMPOSE, "control-center", "cp-enterprise-control-center:", Some("9021"), "curl"),
        (COMPOSE, "sqlserver", "mssql/server:2022", Some("1433"), "/opt/mssql-tools18/bin/sqlcmd -C"),
        (COMPOSE, "konekt", "konekt:", None, "/tmp/konekt.heartbeat"),
        (COMPOSE, "sqlserver-init", "mssql/server:2022", None, ""),
        (COMPOSE_MONGO, "mongo1", "mongo:8", Some("27017"), "--host $$HOSTNAME --port 27017"),
        (COMPOSE_MONGO, "mongo2", "mongo:8", Some("27018"), "--host $$HOSTNAME --port 27018"),
        (COMPOSE_MONGO, "mongo3", "mongo:8", Some("27019"), "--host $$HOSTNAME --port 27019"),
        (COMPOSE_MONGO, "mongo-init", "mongo:8", None, ""),
    ];
    let compose = [(COMPOSE, yaml(COMPOSE)), (COMPOSE_MONGO, yaml(COMPOSE_MONGO))];
    let found: usize = compose.iter().map(|(_, compose)| services(compose).count()).sum();
    assert_eq!(found, expected.len(), "a service has no line in this test");
    for (file, name, image, port, check) in expected {
        let (_, compose) = compose.iter().find(|(name, _)| *name == file).expect("the file was read");
        let service = &compose["services"][name];
        assert!(service["image"].as_str().is_some_and(|found| found.contains(image)), "{name}: {}", service["image"]);
        let ports: Vec<String> = port.iter().map(|port| format!("127.0.0.1:{port}:{port}")).collect();
        assert_eq!(strings(&service["ports"]), ports, "{name}: what is published, and to this machine alone");
        let networks = service["networks"]
            .as_array()
            .map_or_else(|| keys(&service["networks"]), |_| strings(&service["networks"]).into_iter().collect());
        let expected: BTreeSet<&str> = if port.is_some() { ["inside", "outside"].into() } else { ["inside"].into() };
        assert_eq!(networks, expected, "{name}: only what is published is outside");
        let ends = service["restart"] == "no";
        assert_eq!(ends, check.is_empty(), "{name}: what stays is checked and restarted");
        let tested = strings(&service["healthcheck"]["test"]).join(" ");
        assert!(tested.contains(check), "{name}: {tested}");
        for part in ["interval", "timeout", "retries", "start_period"] {
            assert!(ends || !service["healthcheck"][part].is_null(), "{name}: the health check has no {part}");
        }
    }
}

#[test]
fn memory_is_limited_and_heaps_fit_in() {
    let heap = Regex::new(r"-Xmx(\d+[mg])").expect("a pattern");
    for compose in [yaml(COMPOSE), yaml(COMPOSE_MONGO)] {
        for (name, service) in services(&compose) {
            let limit = mebibytes(service["mem_limit"].as_str().unwrap_or_else(|| panic!("{name} has no mem_limit")));
            let environment = service["environment"].to_string();
            for found in heap.captures_iter(&environment) {
                assert!(mebibytes(&found[1]) * 3 / 2 <= limit, "{name}: {} in {limit} MiB", &found[0]);
            }
            let server = service["environment"]["MSSQL_MEMORY_LIMIT_MB"].as_str().map(|text| text.parse::<u64>());
            assert!(server.is_none_or(|server| server.is_ok_and(|server| server < limit)), "{name}: {environment}");
        }
    }
}

#[test]
fn data_lies_in_named_volumes() {
    for (file, expected) in [
        (
            COMPOSE,
            vec![
                "zookeeper-data",
                "zookeeper-log",
                "kafka-data",
                "kafka-kraft-data",
                "control-center-data",
                "sqlserver-data",
            ],
        ),
        (COMPOSE_MONGO, vec!["mongo1-data", "mongo2-data", "mongo3-data"]),
    ] {
        let compose = yaml(file);
        assert_eq!(keys(&compose["volumes"]), expected.into_iter().collect(), "{file}");
        let used: Vec<String> = services(&compose)
            .flat_map(|(_, service)| strings(&service["volumes"]))
            .map(|volume| volume.split(':').next().unwrap_or_default().to_owned())
            .collect();
        for volume in keys(&compose["volumes"]) {
            assert!(
                used.iter().filter(|name| **name == volume).count() == 1,
                "{file}: {volume} belongs to one service"
            );
        }
        let folder = path(file).parent().expect("a folder").to_owned();
        for mounted in used.iter().filter(|name| name.starts_with('.')) {
            assert!(folder.join(mounted).exists(), "{file} mounts {mounted}, which is not there");
        }
    }
}

#[test]
fn dependencies_are_services_that_can_become_healthy() {
    for compose in [yaml(COMPOSE), yaml(COMPOSE_MONGO)] {
        for (name, service) in services(&compose) {
            for other in keys(&service["depends_on"]) {
                let dependency = &service["depends_on"][other];
                let target = &compose["services"][other];
                let condition = dependency["condition"].as_str().unwrap_or_default();
                match condition {
                    "service_healthy" => assert!(!target["healthcheck"].is_null(), "{name} waits for {other}"),
                    "service_completed_successfully" => assert_eq!(target["restart"], "no", "{name} waits for {other}"),
                    _ => panic!("{name} depends on {other} without a condition that can be waited for"),
                }
                // What a profile leaves out must not be waited for, unless the same profile starts both.
                let together = target["profiles"].is_null() || target["profiles"] == service["profiles"];
                assert!(together || dependency["required"] == false, "{name} needs {other} in every profile");
            }
        }
    }
}

#[test]
fn the_two_brokers_differ_in_the_profile_and_are_the_same_to_others() {
    let compose = yaml(COMPOSE);
    let (old, new) = (&compose["services"]["kafka"], &compose["services"]["kafka-kraft"]);
    assert_eq!(
        (&old["profiles"], &new["profiles"]),
        (&serde_json::json!(["zookeeper"]), &serde_json::json!(["kraft"]))
    );
    assert_eq!(strings(&new["networks"]["inside"]["aliases"]), ["kafka"]);
    for part in ["image", "hostname", "ports", "healthcheck", "mem_limit"] {
        assert_eq!(old[part], new[part], "{part}");
    }
    let own = |service: &Value| service["environment"].as_object().expect("an environment").clone();
    let differing = |name: &&String| old["environment"].get(*name) != new["environment"].get(*name);
    let differing: Vec<String> = own(old).keys().chain(own(new).keys()).filter(differing).cloned().collect();
    let known = [
        "KAFKA_BROKER_ID",
        "KAFKA_ZOOKEEPER_CONNECT",
        "KAFKA_LISTENERS",
        "KAFKA_NODE_ID",
        "CLUSTER_ID",
        "KAFKA_PROCESS_ROLES",
        "KAFKA_CONTROLLER_QUORUM_VOTERS",
        "KAFKA_CONTROLLER_LISTENER_NAMES",
    ];
    for name in differing {
        assert!(known.contains(&name.as_str()), "{name} differs");
    }
    let cluster = new["environment"]["CLUSTER_ID"].as_str().expect("an id");
    assert!(cluster.len() == 22 && cluster.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)), "{cluster}");
}

#[test]
fn versions_agree() {
    let confluent = Regex::new(r"confluentinc/[a-z-]+:([0-9.]+)").expect("a pattern");
    let compose = text(COMPOSE);
    let versions: BTreeSet<&str> =
        confluent.captures_iter(&compose).map(|found| found.get(1).expect("a version").as_str()).collect();
    assert_eq!(versions.len(), 1, "{versions:?}");
    let manifest = text("Cargo.toml");
    let rust = Regex::new(r#"rust-version = "([0-9.]+)""#).expect("a pattern").captures(&manifest).expect("a version");
    assert!(
        text("Dockerfile").contains(&format!("FROM rust:{}-", &rust[1])),
        "Dockerfile builds with Rust {}",
        &rust[1]
    );
}

#[test]
fn the_two_compose_files_are_one_project() {
    let (main, mongo) = (yaml(COMPOSE), yaml(COMPOSE_MONGO));
    for part in ["name", "networks"] {
        assert_eq!(main[part], mongo[part], "{part}");
    }
    assert_eq!(main["networks"]["inside"]["internal"], true);
}

#[test]
fn names_are_those_of_env_example_and_of_the_program() {
    let example: BTreeSet<String> = example().into_iter().map(|(name, _)| name).collect();
    let mut composed = variables_of(COMPOSE);
    composed.extend(variables_of(COMPOSE_MONGO));
    let compose = yaml(COMPOSE);
    let environment = &compose["services"]["konekt"]["environment"];
    for name in keys(environment) {
        assert!(is_setting(name), "the service konekt sets {name}, which konekt sink sqlserver does not read");
    }
    // What has no value is taken from .env.
    composed.extend(keys(environment).into_iter().filter(|name| environment[name].is_null()).map(str::to_owned));
    for name in &composed {
        assert!(example.contains(name), "{name} is used by a compose file and not in .env.example");
    }
    let by_compose_itself = |name: &str| name.starts_with("COMPOSE_");
    let by_program = |name: &str| fields().any(|field| field.variables.contains(&name));
    for name in &example {
        let read = by_program(name) || composed.contains(name) || by_compose_itself(name);
        assert!(read, "{name} is in .env.example and nobody reads it");
    }
    let profile = example_value("COMPOSE_PROFILES");
    assert!(compose["services"]["kafka"]["profiles"].to_string().contains(&profile), "{profile} starts a broker");
}

fn example_value(name: &str) -> String {
    let found = example().into_iter().find(|(found, _)| found == name);
    found.and_then(|(_, value)| value).unwrap_or_else(|| panic!("{name} has a value in .env.example"))
}

#[test]
fn no_secret_is_in_any_file() {
    let secret = |name: &str| name.ends_with("PASSWORD") || name.ends_with("SECRET") || name == "MONGODB_URI";
    for (name, value) in example() {
        assert!(!secret(&name) || value.is_none(), ".env.example gives {name} a value");
    }
    for (file, compose) in [(COMPOSE, yaml(COMPOSE)), (COMPOSE_MONGO, yaml(COMPOSE_MONGO))] {
        for (service, settings) in services(&compose) {
            for (name, value) in settings["environment"].as_object().into_iter().flatten() {
                let value = value.as_str().unwrap_or("${");
                assert!(!secret(name) || value.starts_with("${"), "{file}: {service} has a {name} of its own");
            }
        }
    }
    let kubernetes = text(KUBERNETES);
    assert!(
        !kubernetes.contains("kind: Secret\n") && kubernetes.contains("secretRef"),
        "{KUBERNETES} refers to a secret"
    );
    let connector = text("deploy/mongo-source-connector.json");
    assert!(!connector.contains("mongodb://"), "the connector's address holds a password: it comes from MONGODB_URI");
    for line in ["/deploy/mongo-keyfile", ".env"] {
        assert!(text(".gitignore").lines().any(|found| found == line), "{line} is kept out of the repository");
    }
    assert!(text(".dockerignore").lines().any(|line| line == "*"), "nothing gets into the image unless it is named");
}

#[test]
fn the_image_is_built_in_stages_and_runs_as_nobody_in_particular() {
    let dockerfile = text("Dockerfile");
    let lines: Vec<&str> = dockerfile.lines().collect();
    let last_stage = lines.iter().rposition(|line| line.starts_with("FROM ")).expect("a stage");
    assert!(lines[..last_stage].iter().any(|line| line.starts_with("FROM rust:")), "the compiler stays in its stage");
    let user = lines[last_stage..].iter().find_map(|line| line.strip_prefix("USER ")).expect("a user");
    assert!(user.parse::<u32>().is_ok_and(|user| user > 0), "a number, so that Kubernetes sees it is not root: {user}");
    assert!(dockerfile.contains("ARG ODBC_DRIVER=") && dockerfile.contains("ENTRYPOINT [\"konekt\"]"));
    let arguments = &yaml(COMPOSE)["services"]["konekt"]["build"]["args"];
    for name in keys(arguments) {
        assert!(dockerfile.contains(&format!("ARG {name}")), "docker-compose.yml gives the build a {name}");
    }
    // What is copied must get past .dockerignore.
    let allowed = text(".dockerignore");
    for needed in ["Cargo.toml", "Cargo.lock", "src", "benches", "tests", "setup_sqlserver_driver.sh"] {
        assert!(allowed.lines().any(|line| line == format!("!{needed}")), ".dockerignore keeps {needed} out");
    }
}

#[test]
fn the_connector_is_whole_and_finds_what_compose_gives_it() {
    let connector: Value = serde_json::from_str(&text("deploy/mongo-source-connector.json")).expect("JSON");
    let config = &connector["config"];
    for (name, value) in config.as_object().expect("a configuration") {
        assert!(value.is_string(), "Connect takes texts: {name} = {value}");
    }
    assert_eq!(config["connector.class"], "com.mongodb.kafka.connect.MongoSourceConnector");
    assert_eq!(config["connection.uri"], "${env:MONGODB_URI}");
    let environment = &yaml(COMPOSE)["services"]["kafka-connect"]["environment"];
    assert_eq!(environment["CONNECT_CONFIG_PROVIDERS"], "env");
    assert_eq!(environment["CONNECT_CONFIG_PROVIDERS_ENV_PARAM_ALLOWLIST_PATTERN"], "MONGODB_URI");
    assert!(!environment["MONGODB_URI"].is_null());
    let broker = &yaml(COMPOSE)["services"]["kafka"]["environment"];
    assert_eq!(config["producer.override.max.request.size"], broker["KAFKA_MESSAGE_MAX_BYTES"], "large documents pass");
}

#[test]
fn kubernetes_restarts_what_hangs_and_waits_for_what_is_in_flight() {
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text(KUBERNETES)).expect("YAML documents");
    let of_kind =
        |kind: &str| documents.iter().find(|found| found["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"));
    let (settings, deployment, scaler) =
        (&of_kind("ConfigMap")["data"], of_kind("Deployment"), &of_kind("HorizontalPodAutoscaler")["spec"]);
    for name in keys(settings) {
        assert!(is_setting(name), "{name} is no setting of konekt sink sqlserver");
        assert!(settings[name].is_string(), "a ConfigMap holds texts: {name}");
    }
    let pod = &deployment["spec"]["template"]["spec"];
    let grace = pod["terminationGracePeriodSeconds"].as_u64().expect("a grace period");
    let shutdown: u64 = settings["KONEKT_SHUTDOWN_TIMEOUT_MS"].as_str().unwrap_or_default().parse().expect("a number");
    assert!(grace * 1000 > shutdown, "{grace} s are not enough for {shutdown} ms");
    let container = &pod["containers"][0];
    let address: SocketAddr = settings["KONEKT_HTTP"].as_str().expect("an address").parse().expect("an address");
    assert!(address.ip().is_unspecified(), "the kubelet asks the pod's own address: {address}");
    let port = &container["ports"][0];
    assert_eq!(port["containerPort"], address.port());
    for (probe, path) in [("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
        let asked = &container[probe]["httpGet"];
        assert_eq!((&asked["path"], &asked["port"]), (&path.into(), &port["name"]), "{probe}");
    }
    let user = text("Dockerfile").lines().find_map(|line| line.strip_prefix("USER ").map(str::to_owned));
    assert_eq!(pod["securityContext"]["runAsUser"].as_u64().map(|user| user.to_string()), user);
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(scaler["scaleTargetRef"]["name"], deployment["metadata"]["name"]);
    assert!(scaler["minReplicas"].as_u64() <= scaler["maxReplicas"].as_u64());
}
