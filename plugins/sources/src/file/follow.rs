//! Reading a file: from its place, to its end, and on as it grows, shrinks or is replaced.

use std::io::{SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::write::MultiGzDecoder;
use railwatch_plugin::source::{Phase, SourceContext, SourceError};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use super::feed::Feed;
use super::place::{HEAD_LEN, Place};
use super::{CHUNK_LEN, LineFormat, is_gz};

/// Compressed bytes that are decompressed at once; a chunk may grow a thousandfold.
const GZ_CHUNK_LEN: usize = 8 << 10;

/// Which file a handle or a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileId(u64, u64);

impl FileId {
    #[cfg(unix)]
    fn of(metadata: &std::fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        Self(metadata.dev(), metadata.ino())
    }

    /// Without inodes, the time of creation is the best there is.
    #[cfg(not(unix))]
    fn of(metadata: &std::fs::Metadata) -> Self {
        let created = metadata.created().ok();
        let since = created.and_then(|at| at.duration_since(std::time::SystemTime::UNIX_EPOCH).ok());
        let since = since.unwrap_or_default();
        Self(since.as_secs(), u64::from(since.subsec_nanos()))
    }
}

struct Opened {
    file: File,
    id: FileId,
    /// Bytes of the file that were read or passed over.
    at: u64,
    gz: Option<MultiGzDecoder<Vec<u8>>>,
}

impl Opened {
    async fn at_end(&self, path: &Path) -> AtEnd {
        let (Ok(ours), theirs) = (self.file.metadata().await, tokio::fs::metadata(path).await) else {
            return AtEnd::Wait;
        };
        match theirs {
            Ok(theirs) if FileId::of(&theirs) != self.id => AtEnd::Replaced,
            _ if ours.len() < self.at => AtEnd::Truncated,
            // The name may be gone for a moment while files are rotated.
            _ => AtEnd::Wait,
        }
    }
}

/// What the end of a file means.
enum AtEnd {
    /// It may grow.
    Wait,
    /// It was truncated: begin anew.
    Truncated,
    /// Another file has its name.
    Replaced,
}

pub(super) struct Follow<'a> {
    cx: &'a SourceContext,
    path: PathBuf,
    /// How often to look, if the file is followed.
    wait: Option<Duration>,
    feed: Feed<'a>,
}

impl<'a> Follow<'a> {
    pub(super) fn new(cx: &'a SourceContext, path: PathBuf, wait: Option<Duration>, feed: Feed<'a>) -> Self {
        Self { cx, path, wait, feed }
    }

    pub(super) async fn run(&mut self) -> Result<(), SourceError> {
        let mut place = self.cx.cursor.as_ref().and_then(Place::of);
        loop {
            let opened = match self.open(place.take()).await {
                Ok(opened) => opened,
                Err(error) if self.wait.is_some() && error.kind() == std::io::ErrorKind::NotFound => {
                    self.cx.status.phase(Phase::Retrying, format!("{}: not there yet", self.path.display()));
                    if !self.pause().await? {
                        return Ok(());
                    }
                    continue;
                }
                Err(error) => return Err(SourceError::Fatal(format!("{}: {error}", self.path.display()))),
            };
            if !self.read(opened).await? {
                return Ok(());
            }
        }
    }

    /// Opens the file at its place, or at its start if it is another file than the place is in.
    async fn open(&mut self, place: Option<Place>) -> std::io::Result<Opened> {
        let mut file = File::open(&self.path).await?;
        let metadata = file.metadata().await?;
        let id = FileId::of(&metadata);
        let gz = is_gz(&self.path).then(|| MultiGzDecoder::new(Vec::new()));
        let mut head = Vec::new();
        (&mut file).take(HEAD_LEN as u64).read_to_end(&mut head).await?;
        let is_whole = |place: &Place| gz.is_some() || place.offset <= metadata.len();
        let done_until = match place.filter(|place| place.is_in(&head) && is_whole(place)) {
            Some(place) => {
                head.truncate(place.head_len);
                place.offset
            }
            None => {
                head.clear();
                0
            }
        };
        // A CSV's first row and a compressed stream can only be read from the start.
        let seekable = gz.is_none() && self.feed.format() == LineFormat::Jsonl;
        let at = if seekable { done_until } else { 0 };
        if at == 0 {
            head.clear();
        }
        file.seek(SeekFrom::Start(at)).await?;
        self.feed.begin(at, done_until, head);
        Ok(Opened { file, id, at, gz })
    }

    /// Reads a file until it is done (false) or another one takes its place (true).
    async fn read(&mut self, mut opened: Opened) -> Result<bool, SourceError> {
        self.cx.status.phase(Phase::Backfilling, format!("reading {}", self.path.display()));
        let mut chunk = vec![0; if opened.gz.is_some() { GZ_CHUNK_LEN } else { CHUNK_LEN }];
        let mut replaced_before = false;
        loop {
            let read = tokio::select! {
                biased;
                () = self.cx.cancel.cancelled() => return Ok(false),
                read = opened.file.read(&mut chunk) => read,
            };
            let read = read.map_err(|error| SourceError::Transient(error.to_string()))?;
            if read > 0 {
                self.take(&mut opened, chunk.get(..read).unwrap_or_default()).await?;
                replaced_before = false;
                continue;
            }
            if self.wait.is_none() {
                self.end(opened).await?;
                return Ok(false);
            }
            match opened.at_end(&self.path).await {
                AtEnd::Truncated => return Ok(true),
                // The writer may still hold the old file open: look once more before leaving it.
                AtEnd::Replaced if replaced_before => {
                    self.feed.rest().await?;
                    return Ok(true);
                }
                AtEnd::Replaced => replaced_before = true,
                AtEnd::Wait => {
                    self.cx.status.live(self.cx.clock.now(), format!("following {}", self.path.display()))
                }
            }
            if !self.pause().await? {
                return Ok(false);
            }
        }
    }

    async fn take(&mut self, opened: &mut Opened, raw: &[u8]) -> Result<(), SourceError> {
        opened.at += u64::try_from(raw.len()).unwrap_or(u64::MAX);
        self.feed.see(raw);
        let Some(gz) = &mut opened.gz else { return self.feed.take(raw).await };
        gz.write_all(raw).map_err(|error| self.not_gz(&error))?;
        let plain = std::mem::take(gz.get_mut());
        self.feed.take(&plain).await
    }

    /// The end of a file that is not followed.
    async fn end(&mut self, opened: Opened) -> Result<(), SourceError> {
        if let Some(gz) = opened.gz {
            let plain = gz.finish().map_err(|error| self.not_gz(&error))?;
            self.feed.take(&plain).await?;
        }
        self.feed.finish().await?;
        self.cx.status.phase(Phase::Done, self.feed.summary());
        Ok(())
    }

    fn not_gz(&self, error: &std::io::Error) -> SourceError {
        SourceError::Fatal(format!("{}: not a whole gzip file: {error}", self.path.display()))
    }

    /// Waits until it is time to look again; false if the source must stop.
    async fn pause(&mut self) -> Result<bool, SourceError> {
        let wait = tokio::time::sleep(self.wait.unwrap_or_default());
        tokio::pin!(wait);
        loop {
            tokio::select! {
                biased;
                () = self.cx.cancel.cancelled() => return Ok(false),
                acked = self.feed.acked(), if self.feed.has_in_flight() => acked?,
                () = &mut wait => return Ok(true),
            }
        }
    }
}
