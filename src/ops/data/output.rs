//! Where documents are written to, one a line: a file, compressed as its name says, or stdout.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::DataError;

/// An open output; what is not [`finish`](Self::finish)ed is not whole.
pub struct Output {
    path: PathBuf,
    writer: Writer,
}

enum Writer {
    Plain(Box<dyn Write>),
    Gzip(GzEncoder<BufWriter<File>>),
    Zstd(zstd::Encoder<'static, BufWriter<File>>),
}

impl Output {
    /// Makes the file anew; `-` is stdout.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(path: &Path) -> Result<Self, DataError> {
        let opened = || -> io::Result<Writer> {
            if path.as_os_str() == "-" {
                return Ok(Writer::Plain(Box::new(BufWriter::new(io::stdout()))));
            }
            let file = BufWriter::new(File::create(path)?);
            Ok(match path.extension().and_then(|extension| extension.to_str()) {
                Some("gz") => Writer::Gzip(GzEncoder::new(file, Compression::default())),
                Some("zst") => Writer::Zstd(zstd::Encoder::new(file, zstd::DEFAULT_COMPRESSION_LEVEL)?),
                _ => Writer::Plain(Box::new(file)),
            })
        };
        let writer = opened().map_err(DataError::write(path))?;
        Ok(Self { path: path.to_owned(), writer })
    }

    /// Writes bytes.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), DataError> {
        let written = match &mut self.writer {
            Writer::Plain(writer) => writer.write_all(bytes),
            Writer::Gzip(writer) => writer.write_all(bytes),
            Writer::Zstd(writer) => writer.write_all(bytes),
        };
        written.map_err(DataError::write(&self.path))
    }

    /// Writes what is still held, and the end that a compressed file needs.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(self) -> Result<(), DataError> {
        let finished = match self.writer {
            Writer::Plain(mut writer) => writer.flush(),
            Writer::Gzip(writer) => writer.finish().and_then(|mut file| file.flush()),
            Writer::Zstd(writer) => writer.finish().and_then(|mut file| file.flush()),
        };
        finished.map_err(DataError::write(&self.path))
    }
}
