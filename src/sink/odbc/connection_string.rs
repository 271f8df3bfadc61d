//! ODBC connection strings: reading, building, hiding what is secret.
//!
//! `Key=value;Key={value with ; in it};…` A value in braces ends at the brace that is not doubled. Source: Microsoft's
//! "SQLDriverConnect Function", section "Comments"; the attributes of SQL Server are those of "DSN and Connection
//! String Keywords and Attributes".

use std::fmt::Write;
use std::path::Path;

use super::drivers::{Driver, is_freetds_file};

/// What stands in place of a secret.
const HIDDEN: &str = "***";

/// Parts of attributes' names whose values nobody may see.
const SECRETS: &[&str] = &["pwd", "pass", "secret", "token", "key", "credential"];

/// How a connection to SQL Server is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encryption {
    /// TLS or no connection.
    #[default]
    Yes,
    /// TLS for the login only, or none where the server has none.
    No,
    /// TLS before anything else is said (TDS 8); Driver 18 and SQL Server 2022.
    Strict,
}

/// What a connection to SQL Server is made of.
#[derive(Clone, Default)]
pub struct SqlServer<'a> {
    /// A host, or `host\instance`.
    pub server: &'a str,
    /// None leaves it to the driver: 1433, or what the instance's browser service says.
    pub port: Option<u16>,
    /// Empty: the login's own.
    pub database: &'a str,
    /// None: the login of the operating system (Windows, Kerberos).
    pub username: Option<&'a str>,
    pub password: &'a str,
    pub encryption: Encryption,
    pub trust_server_certificate: bool,
}

impl SqlServer<'_> {
    /// The connection string for this driver. It holds the password: show only its [`redacted`] form.
    pub fn connection_string(&self, driver: &Driver) -> String {
        let mut text = attribute("Driver", &driver_value(driver));
        if driver.is_freetds() {
            text += &attribute("Server", self.server);
            text += &self.port.map_or_else(String::new, |port| format!("Port={port};"));
            text += "TDS_Version=7.4;ClientCharset=UTF-8;";
            text += match self.encryption {
                Encryption::Yes => "Encryption=require;",
                Encryption::No => "Encryption=request;",
                Encryption::Strict => "Encryption=strict;",
            };
        } else {
            text += &self.port.map_or_else(
                || attribute("Server", self.server),
                |port| attribute("Server", &format!("{},{port}", self.server)),
            );
            text += match self.encryption {
                Encryption::Yes => "Encrypt=yes;",
                Encryption::No => "Encrypt=no;",
                Encryption::Strict => "Encrypt=strict;",
            };
            text += if self.trust_server_certificate { "TrustServerCertificate=yes;" } else { "" };
        }
        text += &Some(self.database)
            .filter(|name| !name.is_empty())
            .map_or_else(String::new, |name| attribute("Database", name));
        text += &match self.username {
            Some(username) => attribute("UID", username) + &attribute("PWD", self.password),
            None => "Trusted_Connection=yes;".to_owned(),
        };
        text + "APP=konekt;"
    }
}

/// `key=value;`, the value in braces where it needs them.
pub fn attribute(key: &str, value: &str) -> String {
    // what no driver takes for anything else; Server=host\name,1433 and Driver=/path are written without braces
    let plain = |character: char| character.is_ascii_alphanumeric() || "._-:,\\/".contains(character);
    match value.chars().all(plain) {
        true => format!("{key}={value};"),
        false => format!("{key}={{{}}};", value.replace('}', "}}")),
    }
}

/// The connection string with its driver as the driver manager finds it: where it names an installed driver whose file
/// the manager would not find by itself, the file stands in place of the name.
///
/// # Errors
/// When it names a driver that is not installed, or whose file is not there: what is, and what to do.
pub fn resolved(text: &str, installed: &[Driver]) -> Result<String, String> {
    let Some(piece) = pieces(text).into_iter().find(|piece| piece.key.eq_ignore_ascii_case("driver")) else {
        return Ok(text.to_owned());
    };
    let name = piece.value();
    if Path::new(&name).is_absolute() {
        return Ok(text.to_owned());
    }
    let known = |driver: &&Driver| driver.name.eq_ignore_ascii_case(&name) || driver.registered == name;
    let Some(driver) = installed.iter().find(known) else {
        let names: Vec<&str> = installed.iter().map(|driver| driver.name.as_str()).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        return Err(format!(
            "the ODBC driver {name:?} is not installed; installed: {names}; `konekt check-drivers` says more"
        ));
    };
    if driver.file.is_none() {
        let (registered, origin) = (&driver.registered, driver.origin.display());
        return Err(format!(
            "the ODBC driver {name:?} is registered in {origin}, but its file {registered:?} is not there; \
             install it again"
        ));
    }
    let mut text = text.to_owned();
    text.replace_range(piece.start..piece.end, &attribute("Driver", &driver_value(driver)));
    Ok(text)
}

/// How a connection names the driver.
fn driver_value(driver: &Driver) -> String {
    match &driver.file {
        Some(file) if !driver.found_by_name => file.display().to_string(),
        _ => driver.name.clone(),
    }
}

/// The value of an attribute, without its braces.
pub fn value_of(text: &str, key: &str) -> Option<String> {
    pieces(text).into_iter().find(|piece| piece.key.eq_ignore_ascii_case(key)).map(|piece| piece.value())
}

/// The connection string as it may be shown: passwords, tokens and keys as `***`.
///
/// ```
/// use konekt::sink::odbc::connection_string::redacted;
///
/// assert_eq!(redacted("Server=db,1433;UID=sa;PWD={a;b}}c};"), "Server=db,1433;UID=sa;PWD=***;");
/// ```
pub fn redacted(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for piece in pieces(text) {
        let key = piece.key.to_ascii_lowercase();
        // a piece without a key is often what a password with a semicolon was cut into
        let secret = key.is_empty() || SECRETS.iter().any(|part| key.contains(part));
        let value = if secret { HIDDEN } else { piece.raw };
        let equals = if piece.key.is_empty() { "" } else { "=" };
        // Writing into a string cannot fail.
        let _ = write!(shown, "{}{equals}{value};", piece.key);
    }
    shown
}

/// Whether the connection string, or the file it names, is FreeTDS.
pub fn names_freetds(text: &str) -> bool {
    let mut drivers = pieces(text).into_iter().filter(|piece| piece.key.eq_ignore_ascii_case("driver"));
    drivers.any(|piece| piece.value().eq_ignore_ascii_case("freetds") || is_freetds_file(Path::new(&piece.value())))
}

/// One `key=value;` of a connection string.
struct Piece<'a> {
    /// Empty where there is no `=`.
    key: &'a str,
    /// With its braces.
    raw: &'a str,
    start: usize,
    /// After its semicolon.
    end: usize,
}

impl Piece<'_> {
    /// The value without braces.
    fn value(&self) -> String {
        match self.raw.strip_prefix('{') {
            Some(rest) => rest.strip_suffix('}').unwrap_or(rest).replace("}}", "}"),
            None => self.raw.to_owned(),
        }
    }
}

fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut start = 0;
    while start < text.len() {
        let rest = &text[start..];
        let key_end = rest.find(['=', ';']).filter(|at| rest.as_bytes()[*at] == b'=');
        let value_start = key_end.map_or(0, |at| at + 1);
        let length = value_start + value_length(&rest[value_start..]);
        let end = start + (length + 1).min(rest.len());
        let raw = rest[value_start..length].trim();
        if key_end.is_some() || !raw.is_empty() {
            pieces.push(Piece { key: rest[..key_end.unwrap_or(0)].trim(), raw, start, end });
        }
        start = end;
    }
    pieces
}

/// Up to the semicolon that ends the value. A brace that is never closed takes all the rest.
fn value_length(text: &str) -> usize {
    let mut from = 0;
    if text.trim_start().starts_with('{') {
        from = text.find('{').map_or(0, |at| at + 1);
        while let Some(at) = text[from..].find('}').map(|at| from + at) {
            from = at + 1;
            if !text[from..].starts_with('}') {
                return from + text[from..].find(';').unwrap_or(text.len() - from);
            }
            from += 1;
        }
        return text.len();
    }
    text[from..].find(';').unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn driver(name: &str, registered: &str, file: Option<&str>) -> Driver {
        Driver {
            name: name.to_owned(),
            registered: registered.to_owned(),
            description: String::new(),
            file: file.map(PathBuf::from),
            version: None,
            origin: PathBuf::from("/etc/odbcinst.ini"),
            found_by_name: Path::new(registered).is_absolute(),
        }
    }

    fn microsoft() -> Driver {
        driver("ODBC Driver 18 for SQL Server", "/opt/ms.so", Some("/opt/ms.so"))
    }

    fn freetds() -> Driver {
        driver("FreeTDS", "libtdsodbc.so", Some("/usr/lib/odbc/libtdsodbc.so"))
    }

    #[test]
    fn sql_server_strings_are_built_for_microsofts_drivers_and_for_freetds() {
        let full = SqlServer {
            server: "db.example",
            port: Some(1433),
            database: "orders",
            username: Some("sa"),
            password: "p;w}d",
            encryption: Encryption::Yes,
            trust_server_certificate: true,
        };
        let integrated =
            SqlServer { server: "db\\live", database: "my orders", encryption: Encryption::No, ..SqlServer::default() };
        for (settings, driver, expected) in [
            (
                &full,
                microsoft(),
                "Driver={ODBC Driver 18 for SQL Server};Server=db.example,1433;Encrypt=yes;TrustServerCertificate=yes;\
                 Database=orders;UID=sa;PWD={p;w}}d};APP=konekt;",
            ),
            (
                &full,
                freetds(),
                "Driver=/usr/lib/odbc/libtdsodbc.so;Server=db.example;Port=1433;TDS_Version=7.4;ClientCharset=UTF-8;\
                 Encryption=require;Database=orders;UID=sa;PWD={p;w}}d};APP=konekt;",
            ),
            (
                &integrated,
                microsoft(),
                "Driver={ODBC Driver 18 for SQL Server};Server=db\\live;Encrypt=no;Database={my orders};\
                 Trusted_Connection=yes;APP=konekt;",
            ),
        ] {
            assert_eq!(settings.connection_string(&driver), expected);
        }
    }

    #[test]
    fn nothing_secret_is_shown_however_it_is_written() {
        for (text, expected) in [
            ("Server=a;PWD=secret", "Server=a;PWD=***;"),
            ("Server=a; pwd = secret ;UID=b;", "Server=a;pwd=***;UID=b;"),
            ("Password={a;b};Database=c", "Password=***;Database=c;"),
            ("PWD={a}};b};Database=c", "PWD=***;Database=c;"),
            ("PWD={never closed;Database=c", "PWD=***;"),
            ("PWD=a;b c;Database=d", "PWD=***;***;Database=d;"),
            (
                "AccessToken=x;ClientSecret=y;KeyStoreSecret=z;SSLKey=k",
                "AccessToken=***;ClientSecret=***;KeyStoreSecret=***;SSLKey=***;",
            ),
            ("Driver={ODBC Driver 18 for SQL Server};;", "Driver={ODBC Driver 18 for SQL Server};"),
            ("PWD=", "PWD=***;"),
            ("", ""),
            ("=x;", "***;"),
            ("hunter2", "***;"),
        ] {
            assert_eq!(redacted(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_value_survives_its_braces() {
        for value in ["plain", "a;b", "}", "{}", "a}}b", " a ", "", "ü€"] {
            let text = format!("A=1;{}B=2;", attribute("Key", value));
            let pieces = pieces(&text);
            let found: Vec<_> = pieces.iter().map(|piece| (piece.key, piece.value())).collect();
            assert_eq!(found, [("A", "1".into()), ("Key", value.to_owned()), ("B", "2".into())], "{text}");
        }
    }

    #[test]
    fn the_drivers_name_becomes_its_file_only_where_the_manager_would_not_find_it() {
        let installed = [microsoft(), freetds(), driver("Gone", "/gone.so", None)];
        for (text, expected) in [
            ("UID=a;Driver=FreeTDS;PWD=b", Ok("UID=a;Driver=/usr/lib/odbc/libtdsodbc.so;PWD=b")),
            ("DRIVER={freetds}", Ok("Driver=/usr/lib/odbc/libtdsodbc.so;")),
            ("Driver=libtdsodbc.so;", Ok("Driver=/usr/lib/odbc/libtdsodbc.so;")),
            ("Driver=/some/file.so;UID=a", Ok("Driver=/some/file.so;UID=a")),
            ("DSN=orders;PWD=b", Ok("DSN=orders;PWD=b")),
            ("Driver={ODBC Driver 18 for SQL Server};", Ok("Driver={ODBC Driver 18 for SQL Server};")),
            ("Driver=Gone;PWD=b", Err("its file \"/gone.so\" is not there")),
            ("Driver=Oracle;PWD=b", Err("installed: ODBC Driver 18 for SQL Server, FreeTDS, Gone")),
        ] {
            match (resolved(text, &installed), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(found), Err(part)) => {
                    assert!(found.contains(part) && !found.contains("PWD"), "{text}: {found}");
                }
                (found, expected) => panic!("{text}: {found:?}, expected {expected:?}"),
            }
        }
        assert!(resolved("Driver=x", &[]).is_err_and(|message| message.contains("installed: none")));
    }

    #[test]
    fn freetds_is_known_by_name_and_by_file() {
        for (text, expected) in
            [("Driver=FreeTDS", true), ("driver={/a/libtdsodbc.so.0};UID=a", true), ("UID=FreeTDS", false)]
        {
            assert_eq!(names_freetds(text), expected, "{text}");
        }
    }
}
