//! Asks every member, and the deployment as a whole.

use std::collections::BTreeSet;
use std::time::Duration;

use mongodb::bson::{Document, doc};
use mongodb::sync::Client;

use crate::door;
use crate::mongo::Deployment;
use crate::mongo::error::Said;

/// What was answered, undigested.
#[derive(Clone, Debug)]
pub struct Answers {
    /// The address, its password hidden.
    pub shown: String,
    pub wanted_set: Option<String>,
    pub encrypted: bool,
    /// Servers that the address names, and members of the set that it does not.
    pub members: Vec<Member>,
    /// `config` of replSetGetConfig.
    pub config: Option<Document>,
    /// serverStatus of the primary, or of whoever answers.
    pub server: Option<Document>,
    /// The seconds of the oplog's first and last entries.
    pub oplog: Result<(i64, i64), Said>,
    /// Whether a change stream of the deployment opens.
    pub stream: Result<(), Said>,
    /// getDefaultRWConcern.
    pub concern: Option<Document>,
    pub unix_ms: i64,
}

/// What one server said.
#[derive(Clone, Debug)]
pub struct Member {
    pub host: String,
    pub hello: Result<Document, Said>,
    /// replSetGetStatus.
    pub status: Result<Document, Said>,
    pub version: Option<String>,
}

impl Member {
    /// Whether it says of itself that it is the primary.
    pub fn is_primary(&self) -> bool {
        self.hello.as_ref().is_ok_and(|hello| {
            hello.contains_key("setName") && hello.get_bool("isWritablePrimary").is_ok_and(|is_primary| is_primary)
        })
    }
}

impl Answers {
    /// Asks; `wait` bounds each question. What is not answered is part of the answers.
    pub fn gather(deployment: &Deployment, wait: Duration) -> Self {
        let mut members: Vec<Member> = deployment.hosts().iter().map(|host| ask(deployment, host, wait)).collect();
        let config = members.iter().filter(|member| member.hello.is_ok()).find_map(|member| {
            let answer = command(deployment, &member.host, wait, doc! { "replSetGetConfig": 1 }).ok()?;
            answer.get_document("config").ok().cloned()
        });
        let asked: BTreeSet<String> = members.iter().map(|member| member.host.clone()).collect();
        let configured = config.iter().flat_map(|config| config.get_array("members").into_iter().flatten());
        let hosts = configured.filter_map(|member| member.as_document()?.get_str("host").ok());
        let further: Vec<String> = hosts.filter(|host| !asked.contains(*host)).map(str::to_owned).collect();
        members.extend(further.iter().map(|host| ask(deployment, host, wait)));
        let best = members.iter().find(|member| member.is_primary());
        let best = best.or_else(|| members.iter().find(|member| member.status.is_ok() || member.hello.is_ok()));
        let of_best = |question: Document| command(deployment, &best?.host, wait, question).ok();
        let nobody = || Said { code: None, words: "no server answers".to_owned(), unreachable: true };
        let client = best.map_or_else(|| Err(nobody()), |best| deployment.member(&best.host, wait));
        Self {
            shown: deployment.shown(),
            wanted_set: deployment.wanted_set().map(str::to_owned),
            encrypted: deployment.is_encrypted(),
            config,
            server: of_best(doc! { "serverStatus": 1 }),
            oplog: client.clone().and_then(|client| oplog(&client, wait)),
            stream: client.and_then(|client| {
                client
                    .watch()
                    .max_await_time(Duration::from_millis(1))
                    .run()
                    .map(drop)
                    .map_err(|error| Said::of(&error))
            }),
            concern: of_best(doc! { "getDefaultRWConcern": 1 }),
            members,
            unix_ms: door::unix_ms(),
        }
    }
}

fn ask(deployment: &Deployment, host: &str, wait: Duration) -> Member {
    let hello = deployment.hello(host);
    let (status, version) = match &hello {
        Ok(_) => (
            command(deployment, host, wait, doc! { "replSetGetStatus": 1 }),
            command(deployment, host, wait, doc! { "buildInfo": 1 }).ok(),
        ),
        Err(said) => (Err(said.clone()), None),
    };
    let version = version.and_then(|info| info.get_str("version").ok().map(str::to_owned));
    Member { host: host.to_owned(), hello, status, version }
}

fn command(deployment: &Deployment, host: &str, wait: Duration, mut question: Document) -> Result<Document, Said> {
    question.insert("maxTimeMS", wait.as_millis() as i64);
    let client = deployment.member(host, wait)?;
    client.database("admin").run_command(question).run().map_err(|error| Said::of(&error))
}

fn oplog(client: &Client, wait: Duration) -> Result<(i64, i64), Said> {
    let entries = client.database("local").collection::<Document>("oplog.rs");
    let second = |direction: i32| {
        let entry = entries.find_one(doc! {}).sort(doc! { "$natural": direction }).max_time(wait).run();
        let entry = entry.map_err(|error| Said::of(&error))?;
        let at = entry.and_then(|entry| entry.get_timestamp("ts").ok()).map(|at| i64::from(at.time));
        at.ok_or_else(|| Said { code: None, words: "there is no oplog".to_owned(), unreachable: false })
    };
    Ok((second(1)?, second(-1)?))
}
