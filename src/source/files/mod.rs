//! [`Source`] over files of JSON documents: a file is a topic of one partition, and a document's offset is the number of its
//! line (or its place in the array), so whatever writes what comes from Kafka also loads files, with the same promises.
//!
//! The flow: [`count`] looks at all files first. That costs reading them twice; in return progress is exact, and a damaged
//! archive is found before anything is written. [`FileSource`] then cuts files into chunks of whole documents as fast as
//! the memory budget allows; what is parsed (`chunk`) is parsed by the engine's workers on rayon's threads.

mod chunk;
pub mod documents;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};
use rayon::prelude::*;
use uuid::Uuid;

use self::chunk::FileChunk;
pub use self::chunk::{BadDocument, OnBad, Parser};
use self::documents::Documents;
use crate::core::record::TopicPartition;
use crate::port::{Assignment, Chunk, MemoryBudget, Source, SourceError, SourceEvent, Waker};

/// Lines are counted from 1 on, as editors do.
const FIRST: i64 = 1;
/// A chunk has at least as much, where the file does: enough to parse in parallel.
const CHUNK_BYTES: usize = 1 << 20;
/// How much of a file is passed over before commands are looked at again.
const SKIPPED_BYTES: usize = 64 << 20;

/// The namespace of [`CountedFile::id`]; it must never change, or files would count as others than before.
const NAMESPACE: Uuid = Uuid::from_bytes(*b"konekt:json-file");

/// A file, and what is known of it.
#[derive(Clone, Debug)]
pub struct CountedFile {
    pub path: PathBuf,
    /// Its name without folders, and partition 0.
    pub partition: TopicPartition,
    /// Derived from the first document: the same when documents were appended since, another for another file under the
    /// same name.
    pub id: Uuid,
    /// The offset behind the last document.
    pub end: i64,
}

/// Reads all files to their ends, several at a time. Files without documents are left out.
///
/// # Errors
/// Every file that cannot be read, and names that occur twice, since a file's name is its topic.
pub fn count(files: &[PathBuf]) -> Result<Vec<CountedFile>, String> {
    let counted: Vec<Result<CountedFile, String>> =
        files.par_iter().map(|path| count_one(path).map_err(|error| format!("{}: {error}", path.display()))).collect();
    let mut faults: Vec<String> = counted.iter().filter_map(|counted| counted.as_ref().err().cloned()).collect();
    let mut names: HashMap<TopicPartition, PathBuf> = HashMap::new();
    let counted: Vec<CountedFile> = counted.into_iter().flatten().filter(|file| file.end > FIRST).collect();
    for file in &counted {
        if let Some(other) = names.insert(file.partition.clone(), file.path.clone()) {
            let (one, two) = (other.display(), file.path.display());
            faults.push(format!("{one} and {two} have one name, by which rows are told apart: load one at a time, each with a --group-id of its own"));
        }
    }
    if faults.is_empty() { Ok(counted) } else { Err(faults.join("\n")) }
}

fn count_one(path: &Path) -> io::Result<CountedFile> {
    let mut documents = Documents::open(path)?;
    let mut document = Vec::new();
    let mut id = None;
    while documents.next(&mut document)?.is_some() {
        id.get_or_insert_with(|| Uuid::new_v5(&NAMESPACE, &document));
        document.clear();
    }
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let end = if id.is_some() { documents.number() as i64 + 1 } else { FIRST };
    Ok(CountedFile { path: path.to_owned(), partition: TopicPartition::new(name, 0), id: id.unwrap_or(NAMESPACE), end })
}

/// Keeps how far each file is, where no database does.
pub trait Positions: Send {
    /// The offset to go on at.
    fn read(&self, file: &CountedFile) -> Option<i64>;

    /// Keeps positions, and returns once no crash can lose them.
    ///
    /// # Errors
    /// When they were not kept; in words for a person.
    fn write(&mut self, positions: &[(TopicPartition, i64)]) -> Result<(), String>;
}

/// Where there is nothing to keep: the database does.
pub struct NoPositions;

impl Positions for NoPositions {
    fn read(&self, _file: &CountedFile) -> Option<i64> {
        None
    }

    fn write(&mut self, _positions: &[(TopicPartition, i64)]) -> Result<(), String> {
        Ok(())
    }
}

/// Reads files; all of them are ours from the start. See the [module](self).
pub struct FileSource {
    files: HashMap<TopicPartition, CountedFile>,
    parser: Arc<Parser>,
    positions: Box<dyn Positions>,
    memory: Arc<MemoryBudget>,
    /// What has to be said before anything is read.
    answers: Vec<SourceEvent>,
    /// Started and not at their ends, in the order of their turns.
    readers: Vec<Reader>,
    turn: usize,
    bell: Sender<()>,
    rung: Receiver<()>,
}

/// A file that is being read.
struct Reader {
    partition: TopicPartition,
    run: u64,
    documents: Documents,
    /// The offset to read next.
    next: i64,
    end: i64,
    /// A chunk that waits for room in memory.
    waiting: Option<Piece>,
}

/// Documents one behind the other.
#[derive(Default)]
struct Piece {
    bytes: Vec<u8>,
    /// Offset and end of each.
    documents: Vec<(i64, usize)>,
    /// The offset behind it.
    next: i64,
}

impl FileSource {
    /// A source of these files, in which `memory` bytes may be held at a time.
    pub fn new(
        files: Vec<CountedFile>,
        parser: Parser,
        positions: Box<dyn Positions>,
        memory: Arc<MemoryBudget>,
    ) -> Self {
        let (bell, rung) = bounded(1);
        let assigned = files.iter().map(|file| Assignment {
            partition: file.partition.clone(),
            committed: positions.read(file),
            log_start: FIRST,
            log_end: file.end,
            cluster_id: None,
            topic_id: Some(file.id),
        });
        let answers = vec![SourceEvent::Assigned(assigned.collect()), SourceEvent::Settled];
        let files = files.into_iter().map(|file| (file.partition.clone(), file)).collect();
        let parser = Arc::new(parser);
        Self { files, parser, positions, memory, answers, readers: Vec::new(), turn: 0, bell, rung }
    }

    /// One chunk of the next file, when there is room for it within `wait`.
    fn read(&mut self, wait: Duration, events: &mut Vec<SourceEvent>) {
        self.turn = (self.turn + 1) % self.readers.len();
        let reader = &mut self.readers[self.turn];
        let piece = match reader.waiting.take().map_or_else(|| reader.piece(), |piece| Ok(Some(piece))) {
            Ok(Some(piece)) => piece,
            Ok(None) => return,
            Err(error) => {
                let message = format!("{}: {error}", self.files[&reader.partition].path.display());
                let error = SourceError { message, unavailable: false };
                let (partition, run) = (reader.partition.clone(), Some(reader.run));
                events.push(SourceEvent::PartitionFailed { partition, run, forbidden: false, error });
                self.readers.remove(self.turn);
                return;
            }
        };
        if !self.memory.reserve(piece.bytes.len(), wait) {
            reader.waiting = Some(piece);
            return;
        }
        let (first, next, records_max) = (reader.next, piece.next, piece.documents.len());
        reader.next = next;
        let records = FileChunk {
            partition: reader.partition.clone(),
            bytes: piece.bytes.into(),
            documents: piece.documents,
            parser: Arc::clone(&self.parser),
            memory: Arc::clone(&self.memory),
        };
        let (partition, run, log_end) = (reader.partition.clone(), reader.run, reader.end);
        let records = Arc::new(records);
        events.push(SourceEvent::Fetched(Chunk { partition, run, first, next, records_max, log_end, records }));
        if next >= log_end {
            self.readers.remove(self.turn);
        }
    }
}

impl Reader {
    /// The next documents; `None` while what was loaded before is passed over.
    fn piece(&mut self) -> io::Result<Option<Piece>> {
        let mut piece = Piece { next: self.end, ..Piece::default() };
        let mut skipped = 0;
        while piece.bytes.len() < CHUNK_BYTES {
            let start = piece.bytes.len();
            let Some(number) = self.documents.next(&mut piece.bytes)? else { return Ok(Some(piece)) };
            let offset = number as i64;
            if offset < self.next {
                skipped += piece.bytes.len();
                piece.bytes.clear();
                if skipped > SKIPPED_BYTES {
                    return Ok(None);
                }
                continue;
            }
            if offset >= self.end {
                // What was appended since the start is for the next run.
                piece.bytes.truncate(start);
                return Ok(Some(piece));
            }
            piece.documents.push((offset, piece.bytes.len()));
        }
        piece.next = self.documents.number() as i64 + 1;
        Ok(Some(piece))
    }
}

impl Source for FileSource {
    fn poll(&mut self, wait: Duration, events: &mut Vec<SourceEvent>) {
        events.append(&mut self.answers);
        if !events.is_empty() {
            return;
        }
        if self.readers.is_empty() {
            // Woken or not: there is nothing to be had here before a command comes.
            let _ = self.rung.recv_timeout(wait);
        } else {
            self.read(wait.min(ROOM_WAIT), events);
        }
    }

    fn start(&mut self, partition: &TopicPartition, run: u64, offset: i64) {
        self.stop(std::slice::from_ref(partition));
        let Some(file) = self.files.get(partition) else { return };
        if !(FIRST..=file.end).contains(&offset) {
            self.answers.push(SourceEvent::OutOfRange {
                partition: partition.clone(),
                run,
                requested: offset,
                log_start: FIRST,
                log_end: file.end,
            });
        } else if offset < file.end {
            match Documents::open(&file.path) {
                Ok(documents) => {
                    let (partition, end) = (partition.clone(), file.end);
                    self.readers.push(Reader { partition, run, documents, next: offset, end, waiting: None });
                }
                Err(error) => {
                    let message = format!("{}: {error}", file.path.display());
                    let error = SourceError { message, unavailable: false };
                    let (partition, run) = (partition.clone(), Some(run));
                    self.answers.push(SourceEvent::PartitionFailed { partition, run, forbidden: false, error });
                }
            }
        }
    }

    fn stop(&mut self, partitions: &[TopicPartition]) {
        self.readers.retain(|reader| !partitions.contains(&reader.partition));
    }

    fn commit(&mut self, positions: Vec<(TopicPartition, i64)>) {
        let result = self.positions.write(&positions).map_err(|message| SourceError { message, unavailable: false });
        self.answers.push(SourceEvent::Committed { positions, result });
    }

    /// There are no other members.
    fn survey(&mut self) {
        self.answers.push(SourceEvent::Surveyed(Vec::new()));
    }

    fn release(&mut self, partitions: Vec<TopicPartition>, positions: Vec<(TopicPartition, i64)>) {
        self.stop(&partitions);
        self.commit(positions);
    }

    fn close(&mut self, positions: Vec<(TopicPartition, i64)>, _deadline: Duration) -> Result<(), SourceError> {
        self.readers.clear();
        self.positions.write(&positions).map_err(|message| SourceError { message, unavailable: false })
    }

    fn waker(&self) -> Waker {
        let bell = self.bell.clone();
        // Full: it rings already.
        Arc::new(move || {
            let _ = bell.try_send(());
        })
    }
}

/// How long a chunk waits for room in memory before commands are looked at again.
const ROOM_WAIT: Duration = Duration::from_millis(20);
