//! What a client asks for: its login, texts of SQL, calls of procedures, transactions (MS-TDS 2.2.6).

use std::io;

use bytes::Buf;

use super::packet::{Message, PACKET_SIZE, malformed, skip_headers, take, take_text, units};
use super::value::{Type, Value, take_typed};

/// A message from the client, understood.
pub enum Request {
    Prelogin,
    Login(Login),
    /// Statements as text.
    Batch(String),
    /// Procedures, one after the other, in one message.
    Calls(Vec<Call>),
    Transaction(Transaction),
    /// The client no longer wants the answer that it waits for.
    Attention,
}

#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    pub user: String,
    pub password: String,
    pub application: String,
    pub database: String,
    pub packet_size: u32,
    /// Whether the client waits for an acknowledgement of features.
    pub has_features: bool,
}

/// A call of a procedure. Those that prepare and execute are understood; `Other` is named.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// `declared` is the list of parameters as the client spells it: `@P1 nvarchar(36),@P2 int`.
    Prepare {
        declared: String,
        sql: String,
    },
    Execute {
        handle: i64,
        parameters: Vec<Parameter>,
    },
    PrepareAndExecute {
        declared: String,
        sql: String,
        parameters: Vec<Parameter>,
    },
    ExecuteSql {
        declared: String,
        sql: String,
        parameters: Vec<Parameter>,
    },
    Unprepare {
        handle: i64,
    },
    Other {
        procedure: String,
        parameters: Vec<Parameter>,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// With its `@`; mostly empty, since the order says it.
    pub name: String,
    pub kind: Type,
    pub value: Value,
}

/// What the driver itself asks of the transaction manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transaction {
    Begin,
    /// Some drivers begin the next one in the same message.
    Commit {
        begins: bool,
    },
    /// Of everything, or back to a savepoint.
    Rollback {
        savepoint: Option<String>,
        begins: bool,
    },
    Save(String),
}

impl Request {
    pub fn parse(message: &Message) -> io::Result<Self> {
        let mut body = &message.body[..];
        match message.kind {
            0x12 => Ok(Request::Prelogin),
            0x10 => Login::parse(body).map(Request::Login),
            0x06 => Ok(Request::Attention),
            kind => {
                skip_headers(&mut body)?;
                match kind {
                    0x01 => Ok(Request::Batch(String::from_utf16_lossy(&units(body)))),
                    0x03 => calls(body).map(Request::Calls),
                    0x0e => Transaction::parse(body).map(Request::Transaction),
                    other => Err(malformed(format!("a message of kind {other:#x}"))),
                }
            }
        }
    }
}

impl Login {
    /// LOGIN7: offsets and lengths first, then the texts.
    fn parse(body: &[u8]) -> io::Result<Self> {
        let field = |at: usize| -> io::Result<&[u8]> {
            let mut place = body.get(at..).unwrap_or_default();
            let (offset, length) = (usize::from(place.try_get_u16_le()?), usize::from(place.try_get_u16_le()?));
            take(&mut body.get(offset..).unwrap_or_default(), length * 2)
        };
        let text = |at: usize| field(at).map(|bytes| String::from_utf16_lossy(&units(bytes)));
        // the password's bytes are disguised: halves swapped, then every other bit turned
        let password: Vec<u8> = field(44)?.iter().map(|byte| (byte ^ 0xa5).rotate_left(4)).collect();
        let options = *body.get(27).ok_or_else(|| malformed("a short login"))?;
        Ok(Self {
            user: text(40)?,
            password: String::from_utf16_lossy(&units(&password)),
            application: text(48)?,
            database: text(68)?,
            packet_size: agreed_packet_size((&body[8..]).try_get_u32_le()?),
            has_features: options & 0x10 != 0,
        })
    }
}

/// What a client asks for, within what the protocol allows; 0 leaves it to the server.
fn agreed_packet_size(bytes: u32) -> u32 {
    if bytes == 0 { PACKET_SIZE } else { bytes.clamp(512, 32_767) }
}

fn calls(mut body: &[u8]) -> io::Result<Vec<Call>> {
    let mut calls = Vec::new();
    while !body.is_empty() {
        calls.push(call(&mut body)?);
    }
    Ok(calls)
}

fn call(body: &mut &[u8]) -> io::Result<Call> {
    const BY_NUMBER: u16 = 0xffff;
    let procedure = match body.try_get_u16_le()? {
        BY_NUMBER => match body.try_get_u16_le()? {
            10 => "sp_executesql".to_owned(),
            11 => "sp_prepare".to_owned(),
            12 => "sp_execute".to_owned(),
            13 => "sp_prepexec".to_owned(),
            15 => "sp_unprepare".to_owned(),
            number => format!("procedure {number}"),
        },
        length => take_text(body, length.into())?,
    };
    body.try_get_u16_le()?;
    let parameters = parameters(body)?;
    Ok(Call::new(procedure, parameters))
}

/// Parameters up to the end of the message or the mark that another call follows.
fn parameters(body: &mut &[u8]) -> io::Result<Vec<Parameter>> {
    const NEXT_CALL: [u8; 3] = [0xff, 0xfe, 0x80];
    let mut parameters = Vec::new();
    while !body.is_empty() {
        let length = body.try_get_u8()?;
        if NEXT_CALL.contains(&length) {
            break;
        }
        let name = take_text(body, length.into())?;
        body.try_get_u8()?;
        let (kind, value) = take_typed(body)?;
        parameters.push(Parameter { name, kind, value });
    }
    Ok(parameters)
}

impl Call {
    fn new(procedure: String, mut parameters: Vec<Parameter>) -> Self {
        let text =
            |parameters: &[Parameter], at: usize| parameters.get(at).map(|it| it.value.as_text()).unwrap_or_default();
        let handle = parameters.first().and_then(|it| it.value.as_int()).unwrap_or_default();
        let mut rest = |from: usize| parameters.split_off(from.min(parameters.len()));
        match procedure.as_str() {
            "sp_prepare" => Call::Prepare { declared: text(&parameters, 1), sql: text(&parameters, 2) },
            "sp_unprepare" => Call::Unprepare { handle },
            "sp_execute" => Call::Execute { handle, parameters: rest(1) },
            "sp_prepexec" => {
                let values = rest(3);
                Call::PrepareAndExecute {
                    declared: text(&parameters, 1),
                    sql: text(&parameters, 2),
                    parameters: values,
                }
            }
            "sp_executesql" => {
                let values = rest(2);
                Call::ExecuteSql { sql: text(&parameters, 0), declared: text(&parameters, 1), parameters: values }
            }
            _ => Call::Other { procedure, parameters },
        }
    }

    /// What it says about itself in a few words.
    pub fn name(&self) -> &str {
        match self {
            Call::Prepare { .. } => "prepare",
            Call::Execute { .. } => "execute",
            Call::PrepareAndExecute { .. } => "prepare and execute",
            Call::ExecuteSql { .. } => "execute sql",
            Call::Unprepare { .. } => "unprepare",
            Call::Other { procedure, .. } => procedure,
        }
    }

    /// The values of a statement's parameters.
    pub fn parameters(&self) -> &[Parameter] {
        match self {
            Call::Execute { parameters, .. }
            | Call::PrepareAndExecute { parameters, .. }
            | Call::ExecuteSql { parameters, .. }
            | Call::Other { parameters, .. } => parameters,
            Call::Prepare { .. } | Call::Unprepare { .. } => &[],
        }
    }
}

impl Transaction {
    fn parse(mut body: &[u8]) -> io::Result<Self> {
        let kind = body.try_get_u16_le()?;
        if kind == 5 {
            return Ok(Transaction::Begin);
        }
        let length = body.try_get_u8()?;
        let name = String::from_utf16_lossy(&units(take(&mut body, length.into())?));
        let begins = body.try_get_u8().unwrap_or_default() & 1 != 0;
        match kind {
            7 => Ok(Transaction::Commit { begins }),
            8 => Ok(Transaction::Rollback { savepoint: Some(name).filter(|name| !name.is_empty()), begins }),
            9 => Ok(Transaction::Save(name)),
            other => Err(malformed(format!("a transaction request of kind {other}"))),
        }
    }
}
