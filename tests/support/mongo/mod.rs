//! Real MongoDB servers: a standalone, replica sets of one and of three, and one with users and TLS, on free ports, in
//! folders of their own.
//!
//! `prepare.sh` fetches the program. Servers take test commands, so a test can make one fail (`configureFailPoint`). A
//! member that is stopped, killed or frozen comes back by [`Mongo::start_again`] or [`Mongo::thaw`].

use std::fs::{self, File};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use mongodb::bson::{Bson, Document, doc};
use mongodb::sync::{Client, Database};
use nix::sys::signal::{Signal, kill};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::helper::tail;
use super::kafka::{free_port, fresh_folder, lock};
use super::running::Running;
use super::{cache, wait};

/// The version that prepare.sh fetches.
const VERSION: &str = "6.0.5";
/// What a busy two-core machine may need to start a server or to elect a primary.
const START_LIMIT: Duration = Duration::from_secs(60);
/// The name of every replica set here.
pub const SET: &str = "rs0";
/// The user of a secured set; it may do everything.
pub const USER: &str = "konekt";
/// Its password, as it is and as an address says it.
pub const PASSWORD: [&str; 2] = ["s3cret:/@é", "s3cret%3A%2F%40%C3%A9"];

/// What servers to start.
#[derive(Clone, Copy)]
pub struct Wanted {
    /// 0: one server that is no replica set.
    pub members: usize,
    /// With a keyfile, the user [`USER`], and TLS for everybody.
    pub secured: bool,
    /// Megabytes of the oplog; the least is 16 in tests.
    pub oplog_mb: u32,
}

/// A replica set of one member, for all tests of this binary.
pub fn shared() -> Result<&'static Mongo, String> {
    static SHARED: OnceLock<Result<Mongo, String>> = OnceLock::new();
    SHARED.get_or_init(|| own(1)).as_ref().map_err(Clone::clone)
}

/// A replica set of its own, for a test that stops members. 0 members: one server that is no replica set.
pub fn own(members: usize) -> Result<Mongo, String> {
    Mongo::start(Wanted { members, secured: false, oplog_mb: 64 })
}

/// A replica set of one with a keyfile, the user [`USER`] and TLS.
pub fn secured() -> Result<Mongo, String> {
    Mongo::start(Wanted { members: 1, secured: true, oplog_mb: 64 })
}

/// Running servers. Dropping them stops them and removes their data; so does the end of the test process.
pub struct Mongo {
    wanted: Wanted,
    members: Vec<Member>,
    /// Keyfile and certificates of a secured set.
    security: Option<PathBuf>,
}

struct Member {
    port: u16,
    folder: PathBuf,
    running: Mutex<Option<Running>>,
}

impl Mongo {
    /// Starts servers, and makes a replica set of them when that is wanted; it has a primary then.
    pub fn start(wanted: Wanted) -> Result<Self, String> {
        let program = program()?;
        let security = wanted.secured.then(make_security);
        let members = (0..wanted.members.max(1)).map(|_| Member::new()).collect::<Result<_, _>>()?;
        let mongo = Self { wanted, members, security };
        for member in &mongo.members {
            member.start(&program, mongo.arguments())?;
        }
        if wanted.members > 0 {
            mongo.initiate()?;
        }
        Ok(mongo)
    }

    fn arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        if self.wanted.members > 0 {
            let oplog = self.wanted.oplog_mb;
            arguments.extend(["--replSet".to_owned(), SET.to_owned(), "--oplogSize".to_owned(), oplog.to_string()]);
        }
        if let Some(folder) = &self.security {
            let file = |name: &str| folder.join(name).display().to_string();
            arguments.extend(["--keyFile".to_owned(), file("keyfile"), "--tlsMode=requireTLS".to_owned()]);
            arguments.extend(["--tlsCertificateKeyFile".to_owned(), file("server.pem")]);
            arguments.extend(["--tlsCAFile".to_owned(), file("ca.pem")]);
            arguments.push("--tlsAllowConnectionsWithoutCertificates".to_owned());
        }
        arguments
    }

    /// Elections here take one second, not ten.
    fn initiate(&self) -> Result<(), String> {
        let member = |(index, member): (usize, &Member)| doc! { "_id": index as i32, "host": member.address() };
        let members: Vec<Document> = self.members.iter().enumerate().map(member).collect();
        let settings = doc! { "electionTimeoutMillis": 1000, "heartbeatIntervalMillis": 200 };
        let config = doc! { "_id": SET, "version": 1, "members": members, "settings": settings };
        let failed = |error| format!("the replica set cannot be made: {error}");
        let first = Client::with_uri_str(self.address_of(0, false)).map_err(failed)?;
        first.database("admin").run_command(doc! { "replSetInitiate": config }).run().map_err(failed)?;
        self.primary();
        if self.wanted.secured {
            let user = doc! { "createUser": USER, "pwd": PASSWORD[0], "roles": ["root"] };
            first.database("admin").run_command(user).run().map_err(failed)?;
        }
        Ok(())
    }

    /// The address of all members, user and all.
    pub fn uri(&self) -> String {
        let hosts: Vec<String> = self.members.iter().map(Member::address).collect();
        let set = if self.wanted.members > 0 { format!("replicaSet={SET}&") } else { String::new() };
        self.address(&hosts.join(","), &set, true)
    }

    /// The address of one member alone.
    pub fn uri_of(&self, index: usize) -> String {
        self.address_of(index, true)
    }

    fn address_of(&self, index: usize, login: bool) -> String {
        self.address(&self.members[index].address(), "directConnection=true&", login)
    }

    fn address(&self, hosts: &str, options: &str, login: bool) -> String {
        let Some(folder) = &self.security else { return format!("mongodb://{hosts}/?{options}appName=test") };
        let login = if login { format!("{USER}:{}@", PASSWORD[1]) } else { String::new() };
        let authority = folder.join("ca.pem");
        format!("mongodb://{login}{hosts}/?{options}tls=true&tlsCAFile={}", authority.display())
    }

    /// A client of all members.
    pub fn client(&self) -> Client {
        Client::with_uri_str(self.uri()).expect("the address is well-formed")
    }

    /// A client of one member.
    pub fn client_of(&self, index: usize) -> Client {
        Client::with_uri_str(self.uri_of(index)).expect("the address is well-formed")
    }

    /// A database that no other test of this binary has.
    pub fn database(&self) -> Database {
        static MADE: AtomicU32 = AtomicU32::new(0);
        self.client().database(&format!("konekt_{}", MADE.fetch_add(1, Ordering::Relaxed)))
    }

    /// `host:port` of a member.
    pub fn member(&self, index: usize) -> String {
        self.members[index].address()
    }

    /// The member that is primary, once there is one.
    pub fn primary(&self) -> usize {
        let is_primary = |index: &usize| {
            lock(&self.members[*index].running).is_some()
                && self
                    .admin_of(*index, false, doc! { "hello": 1 })
                    .is_ok_and(|hello| hello.get_bool("isWritablePrimary").is_ok_and(|is_primary| is_primary))
        };
        wait::until("a member is primary", START_LIMIT, || (0..self.members.len()).find(is_primary))
    }

    /// Runs an administrative command on one member.
    pub fn admin(&self, index: usize, command: Document) -> Document {
        self.admin_of(index, true, command.clone()).unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    fn admin_of(&self, index: usize, login: bool, command: Document) -> Result<Document, String> {
        let address = format!("{}&serverSelectionTimeoutMS=2000", self.address_of(index, login));
        let client = Client::with_uri_str(address).map_err(|error| error.to_string())?;
        client.database("admin").run_command(command).run().map_err(|error| error.to_string())
    }

    /// Makes a server's commands fail, as `data` says, so many times: see MongoDB's failCommand.
    pub fn fail_commands(&self, index: usize, times: i32, data: Document) {
        self.admin(index, doc! { "configureFailPoint": "failCommand", "mode": { "times": times }, "data": data });
    }

    /// Keeps a secondary from applying what it is sent, or lets it go on.
    pub fn hold_replication(&self, index: usize, hold: bool) {
        let mode = if hold { "alwaysOn" } else { "off" };
        self.admin(index, doc! { "configureFailPoint": "rsSyncApplyStop", "mode": mode });
    }

    /// Stops a member as an operator would.
    pub fn stop(&self, index: usize) {
        let mut running = lock(&self.members[index].running).take().expect("the member runs");
        kill(running.pid(), Signal::SIGTERM).expect("the server is our child");
        running.child.wait().expect("the server is our child");
    }

    /// Kills a member as a power cut would; its data stay.
    pub fn kill(&self, index: usize) {
        drop(lock(&self.members[index].running).take());
    }

    /// Starts a member again with the data it had.
    pub fn start_again(&self, index: usize) {
        let program = program().expect("it was there before");
        self.members[index].start(&program, self.arguments()).expect("the member comes back");
    }

    /// Freezes a member: it stays connected and answers nothing.
    pub fn freeze(&self, index: usize) {
        self.signal(index, Signal::SIGSTOP);
    }

    /// Lets a frozen member go on.
    pub fn thaw(&self, index: usize) {
        self.signal(index, Signal::SIGCONT);
    }

    fn signal(&self, index: usize, signal: Signal) {
        let running = lock(&self.members[index].running);
        kill(running.as_ref().expect("the member runs").pid(), signal).expect("the server is our child");
    }

    /// The folder of a member's data.
    pub fn folder(&self, index: usize) -> &Path {
        &self.members[index].folder
    }
}

impl Drop for Mongo {
    fn drop(&mut self) {
        for member in &self.members {
            lock(&member.running).take();
            fs::remove_dir_all(&member.folder).ok();
        }
        self.security.iter().for_each(|folder| drop(fs::remove_dir_all(folder)));
    }
}

impl Member {
    fn new() -> Result<Self, String> {
        let folder = fresh_folder("mongo");
        fs::create_dir_all(folder.join("data")).map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(Self { port: free_port(), folder, running: Mutex::default() })
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn start(&self, program: &Path, arguments: Vec<String>) -> Result<(), String> {
        let log_path = self.folder.join("mongod.log");
        let log = File::options().append(true).create(true).open(&log_path);
        let log = log.map_err(|error| format!("{}: {error}", log_path.display()))?;
        let mut command = Command::new(program);
        command.current_dir(&self.folder).args(["--dbpath=data", "--bind_ip=127.0.0.1", "--nounixsocket"]);
        command.args(["--wiredTigerCacheSizeGB=0.5", "--setParameter=diagnosticDataCollectionEnabled=false"]);
        command.args(["--setParameter=enableTestCommands=1", &format!("--port={}", self.port)]).args(arguments);
        command.stdin(Stdio::null()).stdout(log).stderr(Stdio::null());
        let mut running = Running::start(command, &self.folder).map_err(|error| format!("mongod: {error}"))?;
        let address = self.address();
        wait::until("mongod listens", START_LIMIT, || match running.child.try_wait() {
            Ok(None) => TcpStream::connect(&address).ok().map(|_| Ok(())),
            Ok(Some(status)) => Some(Err(format!("mongod ended: {status}\n{}", tail(&log_path)))),
            Err(error) => Some(Err(error.to_string())),
        })?;
        *lock(&self.running) = Some(running);
        Ok(())
    }
}

fn program() -> Result<PathBuf, String> {
    let program = cache().join(format!("mongod-{VERSION}")).join("mongod");
    match program.exists() {
        true => Ok(program),
        false => Err(format!("{} is not there: run tests/support/mongo/prepare.sh", program.display())),
    }
}

/// A keyfile that only its owner may read, as mongod demands, and a certificate with its authority.
fn make_security() -> PathBuf {
    let folder = fresh_folder("mongo-security");
    fs::create_dir_all(&folder).expect("a new folder");
    let write = |name: &str, text: &str| {
        fs::write(folder.join(name), text).expect("a file in our folder");
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o400)).expect("it is ours");
    };
    write("keyfile", "a2V5ZmlsZSBvZiB0aGUgdGVzdHMgb2YgS29uZWt0");
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new([]).expect("no names");
    params.distinguished_name.push(DnType::CommonName, "konekt test CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    write("ca.pem", &params.self_signed(&key).expect("a certificate").pem());
    let authority = Issuer::new(params, key);
    let key = KeyPair::generate().expect("a key");
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate = CertificateParams::new(names).expect("names").signed_by(&key, &authority).expect("a certificate");
    write("server.pem", &(key.serialize_pem() + &certificate.pem()));
    folder
}

/// A number as MongoDB answers it, of whatever width.
pub fn number(value: Option<&Bson>) -> i64 {
    match value {
        Some(Bson::Int32(number)) => i64::from(*number),
        Some(Bson::Int64(number)) => *number,
        Some(Bson::Double(number)) => *number as i64,
        other => panic!("{other:?} is no number"),
    }
}
