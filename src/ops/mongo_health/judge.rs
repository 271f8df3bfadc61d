//! From what was answered to checks: plain decisions, without a network. Thresholds are those that MongoDB's own guides
//! and alerts use.

use mongodb::bson::{Bson, Document};

use super::gather::{Answers, Member};
use super::{Check, Level, Limits, MemberLine, Report};
use crate::mongo::error::Said;

const LAG_WARNING_SECONDS: i64 = 10;
const OPLOG_WARNING_HOURS: i64 = 24;
const ELECTION_RECENT_SECONDS: i64 = 600;
const CONNECTIONS_WARNING_PERCENT: i64 = 80;

/// MongoDB's codes.
const UNAUTHORIZED: i32 = 13;
const AUTHENTICATION_FAILED: i32 = 18;
const NO_REPLICATION: i32 = 76;
const NOT_INITIALIZED: i32 = 94;

/// Everything that can be said of the answers.
pub fn judge(answers: &Answers, limits: &Limits) -> Report {
    let view = View::of(answers);
    let reachable = answers.members.iter().any(|member| member.hello.is_ok());
    let mut checks = vec![connection(answers)];
    if reachable {
        checks.extend([encryption(answers), login(answers), set(answers)]);
    }
    if let Some(view) = &view {
        checks.extend([
            members(view),
            primary(answers, view),
            majority(view),
            lag(view, limits),
            election(view),
            voters(view),
            oplog(answers, view, limits),
        ]);
    }
    if reachable {
        checks.extend([streams(answers), concern(answers), versions(answers), connections(answers)]);
    }
    Report {
        address: answers.shown.clone(),
        reachable,
        healthy: reachable && checks.iter().all(|check| check.level != Level::Critical),
        set: view.as_ref().map(|view| view.set.clone()),
        members: view.map(|view| view.members).unwrap_or_default(),
        checks,
    }
}

/// A replica set as its best informed member sees it.
struct View {
    set: String,
    members: Vec<MemberLine>,
    /// Data-bearing members with a vote that are healthy, and how many of them a majority write needs.
    healthy_voters: i64,
    needed_voters: i64,
    voters: usize,
    election_age_seconds: Option<i64>,
}

impl View {
    fn of(answers: &Answers) -> Option<Self> {
        let told = |member: &&Member| member.status.is_ok();
        let primary = answers.members.iter().find(|member| member.is_primary() && told(member));
        let status = primary.or_else(|| answers.members.iter().find(told))?.status.as_ref().ok()?;
        let lines: Vec<&Document> = documents(status, "members").collect();
        let configured = |host: &str| {
            answers.config.as_ref().and_then(|config| {
                documents(config, "members").find(|member| member.get_str("host").is_ok_and(|known| known == host))
            })
        };
        let newest =
            lines.iter().filter(|line| counts_for_lag(line)).filter_map(|line| millis(line, "optimeDate")).max();
        let leader = lines.iter().find(|line| number(line, "state") == Some(1));
        let newest = leader.and_then(|leader| millis(leader, "optimeDate")).or(newest);
        let members = lines.iter().map(|line| {
            let host = line.get_str("name").unwrap_or_default();
            let config = configured(host);
            let delay = config.and_then(|config| number(config, "secondaryDelaySecs")).unwrap_or(0);
            let behind = millis(line, "optimeDate").zip(newest).map(|(own, newest)| (newest - own) / 1000 - delay);
            let is_up = number(line, "health") == Some(1);
            MemberLine {
                host: host.to_owned(),
                state: if is_up { line.get_str("stateStr").unwrap_or("UNKNOWN") } else { "DOWN" }.to_owned(),
                votes: config.is_none_or(|config| number(config, "votes") == Some(1)),
                hidden: config.is_some_and(|config| config.get_bool("hidden").is_ok_and(|hidden| hidden)),
                lag_seconds: behind.filter(|_| counts_for_lag(line)).map(|behind| behind.max(0)),
                sync_source: line.get_str("syncSourceHost").ok().filter(|host| !host.is_empty()).map(str::to_owned),
                uptime_seconds: number(line, "uptime").filter(|_| is_up),
                version: answers
                    .members
                    .iter()
                    .find(|member| member.host == host)
                    .and_then(|member| member.version.clone()),
            }
        });
        let members: Vec<MemberLine> = members.collect();
        let is_healthy = |member: &&MemberLine| member.votes && matches!(&*member.state, "PRIMARY" | "SECONDARY");
        Some(Self {
            set: status.get_str("set").unwrap_or_default().to_owned(),
            healthy_voters: members.iter().filter(is_healthy).count() as i64,
            needed_voters: number(status, "writeMajorityCount").unwrap_or(1),
            voters: members.iter().filter(|member| member.votes).count(),
            election_age_seconds: leader
                .and_then(|leader| millis(leader, "electionDate"))
                .map(|at| (answers.unix_ms - at) / 1000),
            members,
        })
    }

    fn worst_lag(&self) -> Option<(&MemberLine, i64)> {
        self.members.iter().filter_map(|member| Some((member, member.lag_seconds?))).max_by_key(|(_, lag)| *lag)
    }
}

/// An arbiter has no data, and who is away or is still copying has none that counts.
fn counts_for_lag(line: &Document) -> bool {
    number(line, "health") == Some(1)
        && !matches!(number(line, "state"), Some(5 | 7))
        && millis(line, "optimeDate") > Some(0)
}

fn documents<'a>(of: &'a Document, name: &str) -> impl Iterator<Item = &'a Document> + use<'a> {
    of.get_array(name).into_iter().flatten().filter_map(Bson::as_document)
}

fn number(of: &Document, name: &str) -> Option<i64> {
    match of.get(name)? {
        Bson::Int32(number) => Some(i64::from(*number)),
        Bson::Int64(number) => Some(*number),
        Bson::Double(number) => Some(*number as i64),
        _ => None,
    }
}

fn millis(of: &Document, name: &str) -> Option<i64> {
    of.get_datetime(name).ok().map(|at| at.timestamp_millis())
}

fn connection(answers: &Answers) -> Check {
    let silent: Vec<String> = answers
        .members
        .iter()
        .filter_map(|member| Some(format!("{}: {}", member.host, member.hello.as_ref().err()?.words)))
        .collect();
    let (all, answering) = (answers.members.len(), answers.members.len() - silent.len());
    let says = format!("{answering} of {all} servers answer");
    match (answering, silent.is_empty()) {
        (_, true) => Check::good("connection", says),
        (0, _) => {
            let cure =
                "check the address, that the servers run, and the network between; with TLS, tls= and tlsCAFile=";
            Check::bad("connection", Level::Critical, format!("{says}: {}", silent.join("; ")), cure)
        }
        // The check of members says which of them matter.
        _ => {
            let says = format!("{says}: {}", silent.join("; "));
            Check::bad("connection", Level::Warning, says, "start those, or take them out of the address")
        }
    }
}

fn encryption(answers: &Answers) -> Check {
    match answers.encrypted {
        true => Check::good("tls", "connections are encrypted, certificates verified"),
        false => Check::good("tls", "connections are not encrypted"),
    }
}

fn login(answers: &Answers) -> Check {
    let failed = answers.members.iter().filter_map(|member| member.status.as_ref().err());
    let refused = |code: i32| failed.clone().find(|said| said.code == Some(code));
    if let Some(said) = refused(AUTHENTICATION_FAILED) {
        let cure = "check user, password, authSource and authMechanism in the address";
        return Check::bad("login", Level::Critical, said.text(), cure);
    }
    match refused(UNAUTHORIZED) {
        Some(said) => Check::bad(
            "login",
            Level::Critical,
            said.text(),
            "log in with a user that has the role clusterMonitor, and read on the database local for the oplog",
        ),
        None => Check::good("login", "the user may look at the deployment"),
    }
}

fn set(answers: &Answers) -> Check {
    let hellos = answers.members.iter().filter_map(|member| member.hello.as_ref().ok());
    let answering = hellos.clone().count();
    let names: Vec<&str> = hellos.clone().filter_map(|hello| hello.get_str("setName").ok()).collect();
    let code = |code: i32| {
        answers.members.iter().any(|member| member.status.as_ref().is_err_and(|said| said.code == Some(code)))
    };
    let waits = hellos.clone().any(|hello| hello.get_bool("isreplicaset").is_ok_and(|waits| waits));
    match (names.first(), &answers.wanted_set) {
        (Some(name), Some(wanted)) if name != wanted => Check::bad(
            "set",
            Level::Critical,
            format!("the set is {name}, and the address asks for {wanted}: clients find no server"),
            format!("write replicaSet={name}"),
        ),
        (Some(name), None) => {
            Check::good("set", format!("{name}; an address with replicaSet={name} follows elections"))
        }
        (Some(name), _) => Check::good("set", *name),
        (None, _) if waits || code(NOT_INITIALIZED) => {
            let says = "a server that waits for its replica set to be initiated";
            Check::bad("set", Level::Critical, says, "run rs.initiate() on one member")
        }
        (None, _) if code(NO_REPLICATION) || answering == 1 => Check::bad(
            "set",
            Level::Critical,
            "a single server without a replica set: it has neither transactions nor change streams",
            "start it with --replSet rs0 and run rs.initiate(); one member will do",
        ),
        (None, _) => Check::bad("set", Level::Critical, "servers without a replica set", "initiate one of them"),
    }
}

fn members(view: &View) -> Check {
    let said = |member: &&MemberLine| format!("{} is {}", member.host, member.state);
    let is_bad = |member: &&MemberLine| !matches!(&*member.state, "PRIMARY" | "SECONDARY" | "ARBITER");
    let bad: Vec<&MemberLine> = view.members.iter().filter(is_bad).collect();
    if bad.is_empty() {
        let states = view.members.iter().map(|member| format!("{} {}", member.host, member.state));
        let alone = if view.members.len() == 1 { "; a single member: nothing takes over when it is down" } else { "" };
        return Check::good("members", states.collect::<Vec<_>>().join(", ") + alone);
    }
    let is_serious =
        |member: &&MemberLine| member.votes && matches!(&*member.state, "DOWN" | "ROLLBACK" | "REMOVED" | "UNKNOWN");
    let level = if bad.iter().any(is_serious) { Level::Critical } else { Level::Warning };
    let says = bad.iter().map(said).collect::<Vec<_>>().join(", ");
    Check::bad("members", level, says, "start those that are DOWN; see the log of the others: they may be catching up")
}

/// Each member is asked: two that both take themselves for the primary are seen by no single one.
fn primary(answers: &Answers, view: &View) -> Check {
    let named: Vec<&str> =
        answers.members.iter().filter(|member| member.is_primary()).map(|member| member.host.as_str()).collect();
    let seen = view.members.iter().find(|member| member.state == "PRIMARY").map(|member| member.host.as_str());
    match (named.as_slice(), seen) {
        ([], None) => Check::bad(
            "primary",
            Level::Critical,
            "there is no primary: nothing can be written",
            "start members until a majority of the voters is up",
        ),
        ([], Some(seen)) => Check::bad(
            "primary",
            Level::Warning,
            format!("{seen} is primary, and cannot be reached from here"),
            "clients need each member by the name that the configuration has: check DNS, or use directConnection=true",
        ),
        ([one], _) => Check::good("primary", *one),
        (several, _) => Check::bad(
            "primary",
            Level::Warning,
            format!("{} both say that they are primary: an election is under way", several.join(" and ")),
            "look again in a few seconds; if it stays, the network is parted",
        ),
    }
}

fn majority(view: &View) -> Check {
    let (healthy, needed) = (view.healthy_voters, view.needed_voters);
    let says = format!("{healthy} members with data and a vote are healthy, a majority write needs {needed}");
    match healthy {
        healthy if healthy < needed => Check::bad(
            "majority",
            Level::Critical,
            says,
            "start members: majority writes wait meanwhile, as do change streams",
        ),
        _ => Check::good("majority", says),
    }
}

fn lag(view: &View, limits: &Limits) -> Check {
    let Some((member, seconds)) = view.worst_lag() else {
        return Check::good("lag", "no secondary to be behind");
    };
    let source = member.sync_source.as_ref().map(|source| format!(", which follows {source}")).unwrap_or_default();
    let says = format!("{} is {seconds} s behind{source}", member.host);
    let cure = "see its disk and network; db.adminCommand({replSetSyncFrom: \"host:port\"}) makes it follow another";
    match seconds {
        seconds if seconds > limits.lag_seconds => Check::bad("lag", Level::Critical, says, cure),
        seconds if seconds > LAG_WARNING_SECONDS => Check::bad("lag", Level::Warning, says, cure),
        _ => Check::good("lag", format!("at most {seconds} s behind the primary")),
    }
}

fn election(view: &View) -> Check {
    match view.election_age_seconds {
        Some(age) if age < ELECTION_RECENT_SECONDS => Check::bad(
            "election",
            Level::Warning,
            format!("the primary was elected {age} s ago"),
            "if nobody restarted anything, see the primary's log for why",
        ),
        Some(age) => Check::good("election", format!("the primary has been one for {} min", age / 60)),
        None => Check::good("election", "no primary to ask"),
    }
}

fn voters(view: &View) -> Check {
    let says = format!("{} members vote", view.voters);
    match view.voters.is_multiple_of(2) {
        true => Check::bad(
            "voters",
            Level::Warning,
            says,
            "an even number survives no more failures than one less: make it odd",
        ),
        false => Check::good("voters", says),
    }
}

fn oplog(answers: &Answers, view: &View, limits: &Limits) -> Check {
    let (first, last) = match &answers.oplog {
        Ok(seconds) => *seconds,
        Err(said) => {
            let cure = "grant the user read on the database local";
            return Check::bad("oplog", Level::Warning, format!("it cannot be read: {}", said.text()), cure);
        }
    };
    let window = last - first;
    let says = format!("it reaches back {} h {} min", window / 3600, window / 60 % 60);
    let is_young = number_in(answers.server.as_ref(), &["oplogTruncation", "truncateCount"]).unwrap_or(0) == 0;
    let behind = view.worst_lag().map_or(0, |(_, lag)| lag);
    let cure = "make it larger: db.adminCommand({replSetResizeOplog: 1, size: MEGABYTES}) on each member";
    match window {
        // Nothing was cut off yet, so the window is only as long as the set is old.
        _ if is_young => Check::good("oplog", format!("{says}, and nothing was cut off yet")),
        window if window < limits.oplog_hours * 3600 || window < 2 * behind => {
            Check::bad("oplog", Level::Critical, says, cure)
        }
        window if window < OPLOG_WARNING_HOURS * 3600 => Check::bad("oplog", Level::Warning, says, cure),
        _ => Check::good("oplog", says),
    }
}

fn streams(answers: &Answers) -> Check {
    match &answers.stream {
        Ok(()) => Check::good("change streams", "they open"),
        Err(Said { code: Some(UNAUTHORIZED), .. }) => Check::bad(
            "change streams",
            Level::Warning,
            "the user may not watch the whole deployment",
            "grant readAnyDatabase, or watch a database that it may read",
        ),
        Err(said) => {
            let cure = "they need a replica set with a majority of its members up";
            Check::bad("change streams", Level::Critical, format!("they do not open: {}", said.text()), cure)
        }
    }
}

fn concern(answers: &Answers) -> Check {
    let default = answers.concern.as_ref().and_then(|concern| concern.get_document("defaultWriteConcern").ok());
    match default.and_then(|default| default.get("w")) {
        Some(Bson::String(word)) => Check::good("write concern", format!("by default w: {word}")),
        Some(w) => Check::bad(
            "write concern",
            Level::Warning,
            format!("by default w: {w}: an election can undo what was confirmed"),
            "db.adminCommand({setDefaultRWConcern: 1, defaultWriteConcern: {w: \"majority\"}}); Konekt asks for majority itself",
        ),
        None => Check::good("write concern", "no default is known; Konekt asks for majority itself"),
    }
}

fn versions(answers: &Answers) -> Check {
    let mut versions: Vec<&str> = answers.members.iter().filter_map(|member| member.version.as_deref()).collect();
    versions.sort_unstable();
    versions.dedup();
    let is_old = |version: &&str| {
        let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) < (4, 2)
    };
    match versions.as_slice() {
        [] => Check::good("versions", "no member says"),
        all if all.iter().any(is_old) => {
            Check::bad("versions", Level::Critical, all.join(", "), "transactions as Konekt needs them begin with 4.2")
        }
        [one] => Check::good("versions", *one),
        all => Check::bad("versions", Level::Warning, all.join(", "), "finish the upgrade: members should be alike"),
    }
}

fn connections(answers: &Answers) -> Check {
    let read = |name| number_in(answers.server.as_ref(), &["connections", name]);
    let (Some(current), Some(available)) = (read("current"), read("available")) else {
        return Check::good("connections", "not known");
    };
    let all = (current + available).max(1);
    let says = format!("{current} of {all}");
    match current * 100 / all {
        percent if percent > CONNECTIONS_WARNING_PERCENT => Check::bad(
            "connections",
            Level::Warning,
            says,
            "close what is not needed, or raise net.maxIncomingConnections",
        ),
        _ => Check::good("connections", says),
    }
}

fn number_in(of: Option<&Document>, path: &[&str; 2]) -> Option<i64> {
    number(of?.get_document(path[0]).ok()?, path[1])
}

#[cfg(test)]
mod tests;
