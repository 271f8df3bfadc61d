//! TLS 1.2 and 1.3 to brokers, by rustls: the client's configuration, the handshake, and what its failures mean.
//!
//! A certificate that is not as it should be says which of a person's settings may be wrong; a broker that refuses ours
//! often says so only after the handshake (in TLS 1.3 always), so [`Tls::explain`] is asked about every failed read too.

use std::io::{self, BufReader, Read, Write};
use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore,
    SignatureScheme,
};

use super::private_key;
use super::security::{SecurityFault, TlsOptions, Verification};
use super::socket::TimedStream;
use crate::core::civil::utc_text;

/// How much is read from the network at once. By itself rustls reads a quarter of a record.
const READ_BYTES: usize = 64 << 10;

/// What every connection's TLS begins with.
pub(super) struct Tls {
    config: Arc<ClientConfig>,
    verification: Verification,
    has_certificate: bool,
}

impl Tls {
    /// Reads the files that the options name.
    pub(super) fn new(options: &TlsOptions) -> Result<Self, SecurityFault> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone());
        let builder = builder
            .with_safe_default_protocol_versions()
            .map_err(|error| SecurityFault::new("security_protocol", format!("cannot be served: {error}")))?;
        // What rustls calls dangerous is one of its own verifiers, unless the options say otherwise.
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier(options, provider)?);
        let config = match identity(options)? {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(|error| {
                SecurityFault::new("ssl_key_location", format!("does not fit ssl_certificate_location: {error}"))
            })?,
            None => builder.with_no_client_auth(),
        };
        let has_certificate = options.certificate_location.is_some();
        Ok(Self { config: Arc::new(config), verification: options.verification, has_certificate })
    }

    pub(super) fn verification(&self) -> Verification {
        self.verification
    }

    /// Secures a stream to `address`, whose host the broker's certificate must be made out for.
    ///
    /// # Errors
    /// [`explain`](Self::explain) tells TLS's errors from the network's.
    pub(super) fn handshake(&self, address: &str, stream: TimedStream) -> io::Result<TlsStream> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let mut connection = ClientConnection::new(self.config.clone(), name).map_err(io::Error::other)?;
        // A request is taken whole, however large.
        connection.set_buffer_limit(None);
        let mut stream = TlsStream { connection, wire: Wire(BufReader::with_capacity(READ_BYTES, stream)) };
        while stream.connection.is_handshaking() {
            stream.connection.complete_io(&mut stream.wire)?;
        }
        Ok(stream)
    }

    /// What TLS has to say about a failed read or write, in words for a person; `None` when it was not TLS that failed.
    pub(super) fn explain(&self, error: &io::Error) -> Option<String> {
        let cause = error.get_ref()?.downcast_ref::<rustls::Error>()?;
        Some(words(cause, self.has_certificate))
    }
}

/// An encrypted stream.
pub(super) struct TlsStream {
    connection: ClientConnection,
    wire: Wire,
}

impl TlsStream {
    pub(super) fn wire(&self) -> &TimedStream {
        self.wire.0.get_ref()
    }

    pub(super) fn wire_mut(&mut self) -> &mut TimedStream {
        self.wire.0.get_mut()
    }
}

impl Read for TlsStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        rustls::Stream::new(&mut self.connection, &mut self.wire).read(buffer)
    }
}

impl Write for TlsStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        rustls::Stream::new(&mut self.connection, &mut self.wire).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        rustls::Stream::new(&mut self.connection, &mut self.wire).flush()
    }
}

/// Buffered for reading only.
struct Wire(BufReader<TimedStream>);

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.get_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.get_mut().flush()
    }
}

fn words(error: &rustls::Error, has_certificate: bool) -> String {
    use AlertDescription as Alert;
    use CertificateError as Certificate;
    use rustls::Error::{AlertReceived, InvalidCertificate, InvalidMessage, PeerIncompatible};
    match error {
        // The latter comes of a CA of the right name with another key.
        InvalidCertificate(Certificate::UnknownIssuer | Certificate::BadSignature) => {
            "the broker's certificate is not signed by a CA that is trusted here; set ssl_ca_location to the PEM file of \
             its CA"
                .into()
        }
        InvalidCertificate(Certificate::ExpiredContext { not_after, .. }) => {
            format!("the broker's certificate expired on {} UTC; the broker needs a new one", date(*not_after))
        }
        InvalidCertificate(Certificate::NotValidYetContext { not_before, .. }) => {
            format!("the broker's certificate is valid from {} UTC on; check this machine's clock", date(*not_before))
        }
        InvalidCertificate(Certificate::NotValidForNameContext { expected, presented }) => format!(
            "the broker's certificate is made out for {}, not for {}; use the name in the certificate, or set \
             ssl_endpoint_identification_algorithm=none to trust any",
            listed(presented),
            expected.to_str()
        ),
        InvalidCertificate(other) => format!("the broker's certificate is not acceptable: {other}"),
        AlertReceived(Alert::CertificateRequired | Alert::BadCertificate) if !has_certificate =>
        {
            "the broker demands a client certificate: set ssl_certificate_location and ssl_key_location".into()
        }
        AlertReceived(
            alert @ (Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::CertificateRequired
            | Alert::UnknownCA
            | Alert::AccessDenied),
        ) => format!(
            "the broker refuses our certificate ({alert:?}); the one in ssl_certificate_location must be valid and \
             signed by a CA that the broker trusts"
        ),
        InvalidMessage(_) => NO_TLS.into(),
        PeerIncompatible(reason) => format!("the broker has no TLS 1.2 or 1.3 in common with this client: {reason:?}"),
        other => format!("TLS failed: {other}"),
    }
}

/// Said of a port that does not answer in TLS.
pub(super) const NO_TLS: &str = "the broker does not speak TLS on this port; set security_protocol=plaintext \
                                 (with SASL: sasl_plaintext), or use the port of its TLS listener";

fn date(time: UnixTime) -> String {
    let mut text = utc_text(i64::try_from(time.as_secs()).unwrap_or(i64::MAX).saturating_mul(1000));
    text.truncate("YYYY-MM-DD HH:MM:SS".len());
    text
}

/// The names of a certificate, which come as `DnsName("kafka.example")` and the like.
fn listed(names: &[String]) -> String {
    let bare = |name: &String| name.split('"').nth(1).map_or(name.clone(), str::to_owned);
    if names.is_empty() { "no name".into() } else { names.iter().map(bare).collect::<Vec<_>>().join(", ") }
}

fn verifier(options: &TlsOptions, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, SecurityFault> {
    if options.verification == Verification::Nothing {
        return Ok(Arc::new(Unverified(provider)));
    }
    let (roots, setting) = roots(options.ca_location.as_deref())?;
    let strict = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let strict = strict.map_err(|error| SecurityFault::new(setting, format!("gives nobody to trust: {error}")))?;
    Ok(match options.verification {
        Verification::ExceptName => Arc::new(AnyName(strict)),
        _ => strict,
    })
}

/// The CAs to trust, and the setting to change when they will not do.
fn roots(location: Option<&Path>) -> Result<(RootCertStore, &'static str), SecurityFault> {
    const SETTING: &str = "ssl_ca_location";
    let mut roots = RootCertStore::empty();
    // What one of a hundred CAs of the system has that this library cannot use is no reason to trust none.
    let (usable, _) = roots.add_parsable_certificates(certificates(SETTING, location)?);
    match (usable, location) {
        (0, Some(path)) => {
            Err(SecurityFault::new(SETTING, format!("{}: there is no usable certificate in it", path.display())))
        }
        (0, None) => Err(SecurityFault::new(SETTING, "is missing: this system has no CA certificates of its own")),
        _ => Ok((roots, SETTING)),
    }
}

/// The certificates in a file or folder, or the system's.
pub(super) fn certificates(
    setting: &'static str,
    location: Option<&Path>,
) -> Result<Vec<CertificateDer<'static>>, SecurityFault> {
    let Some(path) = location else { return Ok(rustls_native_certs::load_native_certs().certs) };
    let found = match path.is_dir() {
        true => rustls_native_certs::load_certs_from_paths(None, Some(path)),
        false => rustls_native_certs::load_certs_from_paths(Some(path), None),
    };
    match found.errors.into_iter().next() {
        Some(error) if found.certs.is_empty() => {
            Err(SecurityFault::new(setting, format!("{}: cannot be read as PEM certificates: {error}", path.display())))
        }
        _ => Ok(found.certs),
    }
}

/// Our certificate with its chain, and its key.
type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn identity(options: &TlsOptions) -> Result<Option<Identity>, SecurityFault> {
    match (&options.certificate_location, &options.key_location) {
        (None, None) if options.key_password.is_some() => {
            Err(SecurityFault::new("ssl_key_location", "is missing: ssl_key_password is of no use without it"))
        }
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => {
            let chain = certificates("ssl_certificate_location", Some(certificate))?;
            Ok(Some((chain, private_key::read(key, options.key_password.as_ref())?)))
        }
        (Some(_), None) => Err(SecurityFault::new("ssl_key_location", "is missing: ssl_certificate_location needs it")),
        (None, Some(_)) => {
            Err(SecurityFault::new("ssl_certificate_location", "is missing: ssl_key_location is of no use without it"))
        }
    }
}

/// Checks everything but the name.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        use CertificateError::{NotValidForName, NotValidForNameContext};
        match self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The name is what is looked at last, so all else is well.
            Err(rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. })) => {
                Ok(ServerCertVerified::assertion())
            }
            result => result,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Takes any certificate. Whoever presents one still has to hold its key.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::super::error::Error;
    use super::super::socket::Socket;
    use super::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};
    use rustls::pki_types::PrivatePkcs8KeyDer;
    use rustls::{ServerConfig, ServerConnection, StreamOwned};
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::thread::{self, JoinHandle};
    use std::time::{Duration, Instant};

    type ServerStream = StreamOwned<ServerConnection, TcpStream>;

    /// A TLS server for one connection, and the file with the certificate to trust.
    struct Server {
        address: String,
        thread: JoinHandle<()>,
        folder: tempfile::TempDir,
    }

    /// The certificate is made out for `names` and ends with the year before `until`.
    fn serve(names: &[&str], until: i32, script: impl FnOnce(ServerStream) + Send + 'static) -> Server {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(names.iter().map(|name| (*name).into()).collect::<Vec<_>>()).unwrap();
        params.not_after = date_time_ymd(until, 1, 1);
        let certificate = params.self_signed(&key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), certificate.pem()).unwrap();
        let der = PrivatePkcs8KeyDer::from(key.serialize_der());
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], der.into())
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let thread = thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            script(StreamOwned::new(ServerConnection::new(Arc::new(config)).unwrap(), stream));
        });
        Server { address, thread, folder }
    }

    impl Server {
        fn options(&self) -> TlsOptions {
            TlsOptions { ca_location: Some(self.folder.path().join("ca.pem")), ..TlsOptions::default() }
        }

        fn open(&self, options: &TlsOptions) -> Result<Socket, Error> {
            let limit = Duration::from_secs(10);
            Socket::open(&self.address, Some(&Tls::new(options).unwrap()), limit, limit)
        }
    }

    /// Ends when the client hangs up.
    fn echo(mut stream: ServerStream) {
        let mut buffer = vec![0; 100_000];
        while let Ok(length) = stream.read(&mut buffer) {
            if length == 0 || stream.write_all(&buffer[..length]).is_err() {
                return;
            }
        }
    }

    const HERE: &[&str] = &["localhost", "127.0.0.1"];

    #[test]
    fn bytes_go_through_whole_however_many() {
        let server = serve(HERE, 2120, echo);
        let mut socket = server.open(&server.options()).unwrap();
        for length in [1, 4, 16_384, 16_385, 3_000_000] {
            let sent: Vec<u8> = (0..length).map(|at: usize| (at % 251) as u8).collect();
            let mut received = vec![0; length];
            // In pieces, since nobody reads while we write.
            for (sent, received) in sent.chunks(50_000).zip(received.chunks_mut(50_000)) {
                socket.write_all(sent).and_then(|()| socket.flush()).unwrap();
                socket.within(Duration::from_secs(10)).read_exact(received).unwrap();
            }
            assert!(sent == received, "{length} bytes came back changed");
        }
        drop(socket);
        server.thread.join().unwrap();
    }

    #[test]
    fn a_certificate_that_is_not_right_says_why() {
        let other = serve(HERE, 2120, |_| {});
        for (names, until, options, expected) in [
            (HERE, 2021, None, "the broker's certificate expired on 2021-01-01 00:00:00 UTC"),
            (&["a.example", "b.example"][..], 2120, None, "made out for a.example, b.example, not for 127.0.0.1"),
            (HERE, 2120, Some(other.options()), "not signed by a CA that is trusted here"),
        ] {
            let server = serve(names, until, echo);
            let options = options.unwrap_or_else(|| server.options());
            let error = server.open(&options).err().expect("it must be refused");
            assert!(matches!(error, Error::Security { .. }) && error.to_string().contains(expected), "{error}");
            server.thread.join().unwrap();
        }
        drop(TcpStream::connect(&other.address));
        other.thread.join().unwrap();
    }

    #[test]
    fn weaker_verification_checks_what_is_left() {
        for (verification, names, until, passes) in [
            (Verification::ExceptName, &["a.example"][..], 2120, true),
            (Verification::ExceptName, HERE, 2021, false),
            (Verification::Nothing, &["a.example"], 2021, true),
        ] {
            let server = serve(names, until, echo);
            let opened = server.open(&TlsOptions { verification, ..server.options() });
            assert_eq!(opened.is_ok(), passes, "{verification:?} {names:?} {until}");
            drop(opened);
            server.thread.join().unwrap();
        }
    }

    #[test]
    fn silence_ends_in_time_and_a_closed_socket_at_once() {
        let server = serve(HERE, 2120, echo);
        let mut socket = server.open(&server.options()).unwrap();
        let silence = socket.within(Duration::from_millis(50)).read(&mut [0]).unwrap_err();
        assert!(matches!(silence.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut), "{silence:?}");
        let closer = socket.tcp().try_clone().unwrap();
        let began = Instant::now();
        let waiting =
            thread::spawn(move || socket.within(Duration::from_secs(60)).read(&mut [0]).map_err(|e| e.kind()));
        closer.shutdown(Shutdown::Both).unwrap();
        assert_eq!(waiting.join().unwrap(), Err(io::ErrorKind::UnexpectedEof));
        assert!(began.elapsed() < Duration::from_secs(30));
        server.thread.join().unwrap();
    }
}
