//! One client's session: each request becomes an answer, unless a fault is due.

use std::collections::HashMap;
use std::io;
use std::net::TcpStream;
use std::sync::Arc;

use super::answer::{Answer, Done};
use super::database::{Database, Parameters};
use super::errors::{Reach, SqlError};
use super::faults::{Action, On};
use super::log::Event;
use super::packet::Link;
use super::procedures::Prepared;
use super::request::{Call, Login, Request};
use super::tsql;
use super::{DATABASE, PASSWORD, Shared, USER};

/// Serves a connection until either side ends it.
pub fn serve(shared: &Shared, number: u64, socket: TcpStream) {
    let database = Database::open(&shared.file).expect("the database was opened before");
    let mut session = Session {
        shared,
        number,
        link: Link::new(socket),
        database,
        prepared: HashMap::new(),
        last_handle: 0,
        counts: true,
        aborts_transaction: false,
        begins_implicitly: false,
    };
    let reason = match session.run() {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Some(error.to_string()),
        _ => None, // the other side went away, or a fault had it so
    };
    drop(session); // whoever reads that it ended finds its locks gone
    shared.log.add(number, Event::Ended(reason));
}

pub struct Session<'a> {
    shared: &'a Shared,
    number: u64,
    link: Link,
    pub database: Database,
    /// What was prepared, by its handle.
    pub prepared: HashMap<i64, Arc<Prepared>>,
    pub last_handle: i32,
    /// SET NOCOUNT, the other way round.
    pub counts: bool,
    /// SET XACT_ABORT.
    pub aborts_transaction: bool,
    /// SET IMPLICIT_TRANSACTIONS.
    pub begins_implicitly: bool,
}

/// Why an answer ends early.
pub enum Stop {
    /// It tells of this error.
    Error(SqlError),
    /// The connection is closed without an answer.
    Close,
    /// It is closed within the answer.
    CloseHalfWay,
    /// Nobody gets an answer here any more.
    Silence,
    /// The client wants no answer: its attention is the next request.
    Cancelled,
}

impl From<SqlError> for Stop {
    fn from(error: SqlError) -> Self {
        Stop::Error(error)
    }
}

pub type Answered<T> = Result<T, Stop>;

impl Session<'_> {
    fn run(&mut self) -> io::Result<()> {
        while let Some(message) = self.link.receive()? {
            let request = Request::parse(&message)?;
            if matches!(request, Request::Prelogin) {
                self.link.send(&Answer::prelogin())?;
                continue;
            }
            let mut answer = Answer::default();
            let reach = match self.answer(request, &mut answer) {
                Ok(reach) => reach,
                Err(Stop::Error(error)) => Some(self.report(&error, Done::Statement, &mut answer)),
                Err(Stop::Close) => return Ok(()),
                Err(Stop::CloseHalfWay) => return self.link.send_half(&answer.finish()),
                Err(Stop::Silence) => return self.link.ignore(),
                Err(Stop::Cancelled) => continue,
            };
            self.link.send(&answer.finish())?;
            if reach == Some(Reach::Connection) {
                break;
            }
        }
        Ok(())
    }

    /// Puts the answer together; how far the worst error in it reaches.
    fn answer(&mut self, request: Request, answer: &mut Answer) -> Answered<Option<Reach>> {
        match request {
            Request::Prelogin => Ok(None),
            Request::Login(login) => self.login(&login, answer).map(|()| None),
            Request::Batch(sql) => {
                self.note(Event::Batch(sql.clone()));
                let statements = tsql::parse(&sql)?;
                self.executed(&sql, &statements, Parameters::NONE, Done::Statement, answer)
            }
            Request::Calls(calls) => {
                let calls: Arc<[Call]> = calls.into();
                self.note(Event::Calls(Arc::clone(&calls)));
                self.calls(&calls, answer)
            }
            Request::Transaction(transaction) => {
                self.note(Event::Transaction(transaction.clone()));
                self.transaction(&transaction, answer).map(|()| None)
            }
            Request::Attention => {
                self.note(Event::Attention);
                answer.attention();
                Ok(None)
            }
        }
    }

    fn note(&self, event: Event) {
        self.shared.log.add(self.number, event);
    }

    fn login(&mut self, login: &Login, answer: &mut Answer) -> Answered<()> {
        let Login { user, application, database, .. } = login.clone();
        self.note(Event::Login { user, application, database });
        self.faulted(On::Login, &login.user, answer, |session, answer| {
            if login.user != USER || login.password != PASSWORD {
                return Err(SqlError::new(18456, &login.user).into());
            }
            if !login.database.is_empty() && !login.database.eq_ignore_ascii_case(DATABASE) {
                return Err(SqlError::new(4060, &login.database).into());
            }
            answer.logged_in(login, DATABASE);
            session.link.set_packet_size(login.packet_size);
            Ok(())
        })
    }

    /// Does what is to be done, or what a fault says instead.
    pub fn faulted<T>(
        &mut self,
        on: On,
        sql: &str,
        answer: &mut Answer,
        work: impl FnOnce(&mut Self, &mut Answer) -> Answered<T>,
    ) -> Answered<T> {
        match self.shared.faults.take(on, sql) {
            None => work(self, answer),
            Some(Action::Error(number)) => Err(SqlError::new(number, "dbo.processed_messages").into()),
            Some(Action::Close) => Err(Stop::Close),
            Some(Action::CloseHalfWay) => work(self, answer).and(Err(Stop::CloseHalfWay)),
            Some(Action::CloseAfter) => work(self, answer).and(Err(Stop::Close)),
            Some(Action::Silence) => Err(Stop::Silence),
            Some(Action::Delay(time)) => match self.link.is_quiet_for(time) {
                Ok(true) => work(self, answer),
                Ok(false) => Err(Stop::Cancelled),
                Err(_) => Err(Stop::Close),
            },
        }
    }

    /// Tells of an error and does what it entails; how far it reached in the end.
    pub fn report(&mut self, error: &SqlError, done: Done, answer: &mut Answer) -> Reach {
        answer.error(error);
        if error.terminates_statement() {
            answer.info(3621, "The statement has been terminated.");
        }
        let reach = if self.aborts_transaction { error.reach.max(Reach::Transaction) } else { error.reach };
        if reach >= Reach::Transaction && self.database.is_in_transaction() {
            self.database.rollback().expect("a transaction is open");
            answer.rolled_back(self.database.transaction());
        }
        answer.failed(done);
        reach
    }
}
