//! The tokens that make up an answer (MS-TDS 2.2.7).

use bytes::BufMut;

use super::errors::SqlError;
use super::packet::{put_short_text, put_text};
use super::request::Login;
use super::value::{COLLATION, Type, Value, put_type, put_value};

/// The name and version that the double gives itself.
pub const PRODUCT: &str = "Microsoft SQL Server";
pub const VERSION: [u8; 4] = [16, 0, 4, 3];
const TDS_7_4: u32 = 0x7400_0004;

const MORE: u16 = 0x01;
const FAILED: u16 = 0x02;
const HAS_COUNT: u16 = 0x10;
const ATTENTION: u16 = 0x20;

/// Which token ends a statement: as text of its own, within a procedure, or the procedure itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Done {
    Statement = 0xfd,
    InProcedure = 0xff,
    Procedure = 0xfe,
}

/// A column of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub kind: Type,
}

/// An answer as it grows. Each `done` says that more follows, until [`finish`](Answer::finish) takes that back.
#[derive(Default)]
pub struct Answer {
    bytes: Vec<u8>,
    /// Where the status of the last `done` stands.
    last_status: Option<usize>,
}

impl Answer {
    /// The whole answer; one without an end gets one.
    pub fn finish(mut self) -> Vec<u8> {
        let status = match self.last_status {
            Some(status) => status,
            None => {
                self.done(Done::Statement, None);
                self.bytes.len() - 12
            }
        };
        self.bytes[status] &= !(MORE as u8);
        self.bytes
    }

    pub fn prelogin() -> Vec<u8> {
        const ENCRYPTION_NOT_SUPPORTED: u8 = 2;
        let options: [(u8, &[u8]); 4] =
            [(0, &[VERSION[0], VERSION[1], 0, 0, 0, 0]), (1, &[ENCRYPTION_NOT_SUPPORTED]), (2, &[0]), (4, &[0])];
        let (mut answer, mut content) = (Vec::new(), Vec::new());
        let offset = options.len() * 5 + 1;
        for (option, value) in options {
            answer.put_u8(option);
            answer.put_u16((offset + content.len()) as u16);
            answer.put_u16(value.len() as u16);
            content.put_slice(value);
        }
        answer.put_u8(0xff);
        answer.put_slice(&content);
        answer
    }

    pub fn logged_in(&mut self, login: &Login, database: &str) {
        self.changed_text(1, database, "master");
        self.info(5701, &format!("Changed database context to '{database}'."));
        self.changed(7, &[&[COLLATION.len() as u8], &COLLATION[..]].concat(), &[0]);
        self.changed_text(2, "us_english", "");
        self.info(5703, "Changed language setting to us_english.");
        let mut acknowledged = vec![1];
        acknowledged.put_u32(TDS_7_4);
        put_short_text(&mut acknowledged, PRODUCT);
        acknowledged.put_slice(&VERSION);
        self.counted(0xad, &acknowledged);
        self.changed_text(4, &login.packet_size.to_string(), "4096");
        if login.has_features {
            self.bytes.put_slice(&[0xae, 0xff]); // none of them
        }
        self.done(Done::Statement, None);
    }

    /// A transaction began, and has this number.
    pub fn began(&mut self, transaction: u64) {
        self.changed(8, &numbered(transaction), &[0]);
    }

    pub fn committed(&mut self, transaction: u64) {
        self.changed(9, &[0], &numbered(transaction));
    }

    pub fn rolled_back(&mut self, transaction: u64) {
        self.changed(10, &[0], &numbered(transaction));
    }

    pub fn error(&mut self, error: &SqlError) {
        self.message(0xaa, error.number, error.state, error.class, &error.message);
    }

    pub fn info(&mut self, number: i32, message: &str) {
        self.message(0xab, number, 1, 0, message);
    }

    pub fn columns(&mut self, columns: &[Column]) {
        self.bytes.put_u8(0x81);
        self.bytes.put_u16_le(columns.len() as u16);
        for column in columns {
            const NULLABLE: u16 = 1;
            self.bytes.put_u32_le(0);
            self.bytes.put_u16_le(NULLABLE);
            put_type(&mut self.bytes, &column.kind);
            put_short_text(&mut self.bytes, &column.name);
        }
    }

    pub fn row(&mut self, columns: &[Column], row: &[Value]) {
        self.bytes.put_u8(0xd1);
        for (column, value) in columns.iter().zip(row) {
            put_value(&mut self.bytes, &column.kind, value);
        }
    }

    /// What a procedure returns.
    pub fn returned(&mut self, status: i32) {
        self.bytes.put_u8(0x79);
        self.bytes.put_i32_le(status);
    }

    /// The output parameter of the procedures that prepare: the statement's handle.
    pub fn handle(&mut self, handle: i32) {
        self.bytes.put_u8(0xac);
        self.bytes.put_u16_le(0);
        put_short_text(&mut self.bytes, "");
        self.bytes.put_u8(1);
        self.bytes.put_u32_le(0);
        self.bytes.put_u16_le(0);
        self.bytes.put_slice(&[0x26, 4, 4]);
        self.bytes.put_i32_le(handle);
    }

    pub fn done(&mut self, kind: Done, rows: Option<u64>) {
        self.end(kind, if rows.is_some() { HAS_COUNT } else { 0 }, rows.unwrap_or_default());
    }

    pub fn failed(&mut self, kind: Done) {
        self.end(kind, FAILED, 0);
    }

    /// What a client waits for after it has sent an attention.
    pub fn attention(&mut self) {
        self.end(Done::Statement, ATTENTION, 0);
    }

    fn end(&mut self, kind: Done, status: u16, rows: u64) {
        self.bytes.put_u8(kind as u8);
        self.last_status = Some(self.bytes.len());
        self.bytes.put_u16_le(status | MORE);
        self.bytes.put_u16_le(0);
        self.bytes.put_u64_le(rows);
    }

    fn message(&mut self, token: u8, number: i32, state: u8, class: u8, message: &str) {
        let mut content = Vec::new();
        content.put_i32_le(number);
        content.put_slice(&[state, class]);
        put_text(&mut content, message);
        put_short_text(&mut content, "double");
        put_short_text(&mut content, "");
        content.put_i32_le(1);
        self.counted(token, &content);
    }

    fn changed_text(&mut self, kind: u8, new: &str, old: &str) {
        let (mut new_bytes, mut old_bytes) = (Vec::new(), Vec::new());
        put_short_text(&mut new_bytes, new);
        put_short_text(&mut old_bytes, old);
        self.changed(kind, &new_bytes, &old_bytes);
    }

    /// ENVCHANGE.
    fn changed(&mut self, kind: u8, new: &[u8], old: &[u8]) {
        self.counted(0xe3, &[&[kind], new, old].concat());
    }

    fn counted(&mut self, token: u8, content: &[u8]) {
        self.bytes.put_u8(token);
        self.bytes.put_u16_le(content.len() as u16);
        self.bytes.put_slice(content);
    }
}

fn numbered(transaction: u64) -> Vec<u8> {
    [&[8], &transaction.to_le_bytes()[..]].concat()
}
