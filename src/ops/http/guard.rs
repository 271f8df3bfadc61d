//! Who may do what: reading is for everyone who reaches the address, steering is not.
//!
//! - On an address of this machine only (loopback) a request must be made out to this machine, so that no page from
//!   elsewhere reaches it by a name of its own (DNS rebinding).
//! - A browser that sends a command for another site says so (`Origin`, `Sec-Fetch-Site`) and is refused; so no page
//!   from elsewhere pauses anything (CSRF). Programs send neither.
//! - Where a token is set, commands need it (`Authorization: Bearer …`); on any other address than loopback there is no
//!   command without one.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};
use tiny_http::Request;

use crate::core::secret::Secret;

/// See the module.
pub struct Guard {
    loopback: bool,
    token: Option<Secret>,
}

impl Guard {
    /// A guard for an address.
    pub fn new(loopback: bool, token: Option<Secret>) -> Self {
        Self { loopback, token }
    }

    /// Whether commands can be given at all.
    pub fn can_steer(&self) -> bool {
        self.loopback || self.token.is_some()
    }

    /// What the page needs to know: `open`, `token` or `off`.
    pub fn steering(&self) -> &'static str {
        match (&self.token, self.loopback) {
            (Some(_), _) => "token",
            (None, true) => "open",
            (None, false) => "off",
        }
    }

    /// Why a request is not answered.
    pub fn refuses(&self, request: &Request) -> Option<&'static str> {
        let host = value(request, "Host").unwrap_or_default();
        (self.loopback && !is_this_machine(host)).then_some("this address is for this machine; ask for localhost")
    }

    /// Whether a command may be given.
    ///
    /// # Errors
    /// The status and the words to answer with.
    pub fn lets_steer(&self, request: &Request) -> Result<(), (u16, &'static str)> {
        let host = value(request, "Host").unwrap_or_default();
        let from = Sender {
            host,
            origin: value(request, "Origin"),
            site: value(request, "Sec-Fetch-Site"),
            authorization: value(request, "Authorization"),
        };
        self.lets(&from)
    }

    fn lets(&self, from: &Sender<'_>) -> Result<(), (u16, &'static str)> {
        if !self.can_steer() {
            return Err((403, "commands from other machines need a token: set KONEKT_HTTP_TOKEN"));
        }
        let same_origin =
            from.origin.is_none_or(|origin| origin.split_once("://").is_some_and(|(_, of)| of == from.host));
        if !same_origin || from.site.is_some_and(|site| !matches!(site, "same-origin" | "none")) {
            return Err((403, "commands from pages of other sites are refused"));
        }
        let Some(token) = &self.token else { return Ok(()) };
        let given = from.authorization.and_then(|text| text.strip_prefix("Bearer "));
        match given.is_some_and(|given| is_same(given, token.reveal())) {
            true => Ok(()),
            false => Err((401, "this needs the token: Authorization: Bearer …")),
        }
    }
}

/// What a request says about who sent it.
struct Sender<'a> {
    host: &'a str,
    origin: Option<&'a str>,
    site: Option<&'a str>,
    authorization: Option<&'a str>,
}

fn value<'a>(request: &'a Request, name: &'static str) -> Option<&'a str> {
    let header = request.headers().iter().find(|header| header.field.equiv(name));
    header.map(|header| header.value.as_str())
}

fn is_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// By their digests, so that the time it takes tells nothing about the secret.
fn is_same(given: &str, secret: &str) -> bool {
    digest(&SHA256, given.as_bytes()).as_ref() == digest(&SHA256, secret.as_bytes()).as_ref()
}

/// A Content-Security-Policy that lets exactly this page's own script and style run, speaks to its own site only, and is
/// shown in no frame.
pub fn policy_of(page: &str) -> String {
    let hash = |tag: &str| {
        let inner = page.split_once(&format!("<{tag}>")).and_then(|(_, rest)| rest.split_once(&format!("</{tag}>")));
        let inner = inner.map_or("", |(inner, _)| inner);
        STANDARD.encode(digest(&SHA256, inner.as_bytes()))
    };
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        hash("script"),
        hash("style")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROGRAM: Sender<'static> = Sender { host: "127.0.0.1:8080", origin: None, site: None, authorization: None };

    #[test]
    fn commands_come_from_programs_and_from_our_own_page_only() {
        let page = Sender { origin: Some("http://127.0.0.1:8080"), site: Some("same-origin"), ..PROGRAM };
        let elsewhere = Sender { origin: Some("http://evil.example"), ..PROGRAM };
        let sandboxed = Sender { origin: Some("null"), ..PROGRAM };
        let same_site = Sender { origin: Some("http://127.0.0.1:8080"), site: Some("same-site"), ..PROGRAM };
        let guard = Guard::new(true, None);
        for (from, allowed) in
            [(PROGRAM, true), (page, true), (elsewhere, false), (sandboxed, false), (same_site, false)]
        {
            assert_eq!(guard.lets(&from).is_ok(), allowed, "{:?} {:?}", from.origin, from.site);
        }
    }

    #[test]
    fn other_machines_need_the_token_and_so_does_this_one_when_there_is_one() {
        let with = |authorization| Sender { authorization, ..PROGRAM };
        assert_eq!(Guard::new(false, None).lets(&PROGRAM).unwrap_err().0, 403);
        for loopback in [true, false] {
            let guard = Guard::new(loopback, Some(Secret::new("s3cret".to_owned())));
            assert_eq!(guard.lets(&with(Some("Bearer s3cret"))), Ok(()));
            for wrong in [None, Some("Bearer s3cre"), Some("s3cret"), Some("Basic s3cret"), Some("Bearer s3cret ")] {
                assert_eq!(guard.lets(&with(wrong)).unwrap_err().0, 401, "{wrong:?}");
            }
        }
    }

    #[test]
    fn a_loopback_address_is_asked_for_by_its_own_names() {
        for host in ["localhost", "LocalHost:8080", "127.0.0.1:8080", "127.9.9.9", "[::1]:80", "[::1]"] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in ["", "evil.example:8080", "localhost.evil.example", "10.0.0.1", "127.0.0.1.evil.example:80"] {
            assert!(!is_this_machine(host), "{host}");
        }
    }

    #[test]
    fn the_policy_names_this_page_and_no_other() {
        let policy = policy_of("<style>a</style><script>b</script>");
        let of_b = STANDARD.encode(digest(&SHA256, b"b"));
        assert!(policy.contains(&format!("script-src 'sha256-{of_b}'")), "{policy}");
    }
}
