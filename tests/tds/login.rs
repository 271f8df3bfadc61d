//! Coming in.

use std::time::{Duration, Instant};

use crate::client::{Client, code, query};
use crate::tds::{Action, Event, Fault, On, PASSWORD};

pub fn welcomes(client: &Client) {
    let connection = client.connect();
    assert_eq!(connection.database_management_system_name().expect("a name"), "Microsoft SQL Server");
    let version = query(&connection, "SELECT @@VERSION").expect("a version").remove(0).remove(0);
    assert!(version.as_deref().is_some_and(|it| it.starts_with("Microsoft SQL Server 2022")), "{version:?}");
    let logins: Vec<Event> = client.server.take_log().into_iter().map(|entry| entry.event).collect();
    let Event::Login { user, database, .. } = &logins[0] else { panic!("{logins:?}") };
    assert_eq!((user.as_str(), database.as_str()), ("konekt", "konekt"));
}

pub fn refusals(client: &Client) {
    let password = format!("PWD={PASSWORD}");
    let cases: &[(_, _, _, &[(&str, i32)])] = &[
        (&*password, "PWD=wrong", None, &[("28000", 18456), ("42000", 18456)]),
        ("UID=konekt", "UID=nobody", None, &[("28000", 18456), ("42000", 18456)]),
        ("Database=konekt", "Database=other", None, &[("42000", 4060), ("37000", 4060)]),
        ("", "", Some(Action::Error(18456)), &[("28000", 18456), ("42000", 18456)]),
        ("", "", Some(Action::Close), &[("08S01", 10054), ("08001", 0)]),
        ("", "", Some(Action::Silence), &[("HYT00", 0), ("HYT00", 20003)]),
    ];
    for (old, new, fault, expected) in cases {
        client.server.faults().clear();
        fault.iter().for_each(|action| client.server.faults().push(Fault::new(On::Login, *action)));
        let started = Instant::now();
        let found = code(client.try_connect(old, new));
        assert!(expected.iter().any(|it| (it.0, it.1) == (found.0.as_str(), found.1)), "{new} {fault:?}: {found:?}");
        assert!(started.elapsed() < Duration::from_secs(10), "{new} {fault:?} took {:?}", started.elapsed());
    }
}
