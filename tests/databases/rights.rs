//! The rights that docs/operations.md lists are enough: its lines are executed, and with them alone a sink does its work.

use std::path::Path;

use konekt::broker::{Broker, BrokerOptions, TopicSpec};
use konekt::kafka::wire::builder::RecordBatchBuilder;
use konekt::kafka::wire::compression::Codec;

use crate::subject::Served;
use crate::support::databases::{Database, Server, USER};
use crate::support::konekt::Place;
use crate::with_every_server;

with_every_server!(a_sink_writes_with_the_least_rights, a_sink_makes_its_tables_with_these_rights);

/// The user, the database and the password of the page.
const WRITTEN: [&str; 3] = ["konekt_sink", "shop", "'…'"];

/// The page's statements for a kind of server: where the tables are there, and where they are to be made.
fn statements(server: &Server) -> [Vec<String>; 2] {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let heading = if server.name() == "postgres" { "\nPostgreSQL:\n" } else { "\nMySQL and MariaDB:\n" };
    let (_, rest) = page.split_once(heading).expect("its part");
    let (_, rest) = rest.split_once("```sql\n").expect("its statements");
    let (block, _) = rest.split_once("```").expect("their end");
    let (least, instead) = block.split_once("-- instead of the last two").expect("both ways");
    let (_, instead) = instead.split_once('\n').expect("a statement behind the comment");
    let split = |text: &str| -> Vec<String> {
        let statements = text.split(';').map(str::trim).filter(|statement| !statement.is_empty());
        statements.map(str::to_owned).collect()
    };
    let least = split(least);
    let making = [&least[..least.len() - 2], &split(instead)].concat();
    [least, making]
}

fn a_sink_writes_with_the_least_rights(server: &'static Server) {
    let served = Served::new(server, |_| {});
    served.sink.check().expect("the tables are made");
    let [least, _] = statements(server);
    expect_enough(&served.database, &least);
}

fn a_sink_makes_its_tables_with_these_rights(server: &'static Server) {
    let [_, making] = statements(server);
    expect_enough(&server.database(), &making);
}

/// Makes a user with these rights and no others, who then writes, dead letters included, and moves positions.
fn expect_enough(database: &Database<'_>, statements: &[String]) {
    let (server, user) = (database.server(), format!("least_of_{}", database.name()));
    if server.name() == "postgres" {
        // What every role has by itself must not be what is needed.
        database.run(&format!("REVOKE ALL ON DATABASE {} FROM PUBLIC", database.name()));
        database.run("REVOKE ALL ON SCHEMA public FROM PUBLIC");
    }
    let here = [user.as_str(), database.name(), "'x'"];
    for statement in statements {
        let words = WRITTEN.iter().zip(here);
        database.run(&words.fold(statement.clone(), |text, (written, here)| text.replace(written, here)));
    }

    let broker = broker();
    let login = database.connection_string().replace(&format!("Uid={USER}"), &format!("Uid={user}"));
    let login = format!("{};Pwd=x", login.split(";Pwd=").next().expect("a password"));
    let (place, address) = (Place::new(), broker.address());
    let konekt = |arguments: &[&str]| {
        let konekt = place.konekt(arguments).arguments(&["--bootstrap-servers", &address, "--group-id", "g"]);
        konekt.variable("ODBC_CONNECTION_STRING", &login)
    };
    let sink = ["sink", "odbc", "--topics", "orders", "--until-end", "--dead-letter-table"];
    konekt(&sink).run().expect_code(0);
    konekt(&["positions", "rewind", "--to", "0", "--yes"]).run().expect_code(0);
    konekt(&sink).run().expect_code(0).expect_stderr("already there   100");
    assert_eq!(database.select(&["COUNT(*)"], "processed_messages")[0][0], 100);
}

/// A broker that holds a hundred records.
fn broker() -> Broker {
    let topics = vec![TopicSpec::new("orders", 1)];
    let broker = Broker::start(BrokerOptions { topics, ..BrokerOptions::default() }).expect("a broker");
    let mut batch = RecordBatchBuilder::default();
    (0..100).for_each(|number| batch.append(Some(b"k"), Some(b"v"), &[], 1_700_000_000_000 + number));
    broker.append("orders", 0, batch.finish(Codec::None).expect("a batch"));
    broker
}
