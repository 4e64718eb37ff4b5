//! Reads the chunks of a cut, and decides what becomes of those that cannot be read.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use model::Tenant;

use crate::block::{ChunkData, Meta};
use crate::chunk::{self, DecodeError, Encoding};
use crate::db::{Core, Engine};
use crate::error::{Error, Result};
use crate::head::chunk_log::{self, ChunkFile, ClosedChunk};
use crate::head::partition::CutSeries;

/// Most bytes that are read at once.
const RUN_BYTES_MAX: usize = 1 << 20;
/// Most bytes between two chunks that are read for nothing, so that they are one read.
const GAP_BYTES_MAX: usize = 4 << 10;

/// Reads the chunks of a window from the head-chunk log.
pub(super) struct ChunkReading<'a> {
    pub(super) engine: &'a Engine,
    pub(super) core: &'a Core,
    pub(super) tenant: &'a Tenant,
    pub(super) meta: &'a Meta,
    /// Files of the head-chunk log by partition.
    pub(super) files: &'a [BTreeMap<u32, Arc<ChunkFile>>],
    pub(super) lost: &'a mut Vec<Error>,
}

impl ChunkReading<'_> {
    /// The chunks of a series, only with samples of the window. One that cannot be read is made
    /// again from the log, or where the log does not reach back to it, named and left out.
    ///
    /// `ahead` gives the data of the chunks that were read already.
    pub(super) fn chunks(
        &mut self,
        part: usize,
        series: &CutSeries,
        ahead: impl Iterator<Item = Option<Vec<u8>>>,
    ) -> Result<Vec<ChunkData>> {
        let mut chunks = Vec::with_capacity(series.chunks.len());
        for (chunk, data) in series.chunks.iter().zip(ahead) {
            let read = match data {
                Some(data) => self.in_block(part, chunk, data),
                None => self.read(part, series, chunk),
            };
            match read {
                Ok(data) => chunks.extend(data),
                Err(error) if error.is_transient() => return Err(error),
                Err(error) => {
                    self.make_again(part, chunk, &error)?;
                    self.keep_copy(part, chunk);
                    self.lost.push(error);
                }
            }
        }
        Ok(chunks)
    }

    /// Reads the chunks of some series in the order in which they lie in the files, neighbours
    /// together, and answers their data in the order of the series. One that is not had this way
    /// is left to be read by itself, which tells what is wrong with it.
    pub(super) fn read_ahead(&self, window: &[(usize, &CutSeries)]) -> Vec<Option<Vec<u8>>> {
        let mut places: Vec<Place> = Vec::new();
        for (part, series) in window {
            for chunk in &series.chunks {
                let (reference, index) = (series.reference, places.len());
                places.push(Place { part: *part, chunk: *chunk, reference, index });
            }
        }
        let mut data = vec![None; places.len()];
        places.sort_unstable_by_key(|it| (it.part, it.chunk.file, it.chunk.offset));
        let mut run = Vec::new();
        let mut from = 0;
        while from < places.len() {
            let first = &places[from];
            let count = 1 + places[from..].windows(2).take_while(|it| is_near(first, it)).count();
            let places = &places[from..from + count];
            from += count;
            let start = first.chunk.offset as usize;
            let length = places.last().map_or(0, |it| it.end() - start);
            let Some(file) = self.files[first.part].get(&first.chunk.file) else { continue };
            run.resize(length, 0);
            if file.read_run(first.chunk.offset, &mut run).is_err() {
                continue;
            }
            for place in places {
                let record = &run[place.chunk.offset as usize - start..place.end() - start];
                data[place.index] = chunk_log::data_of(record, &place.chunk, place.reference);
            }
        }
        data
    }

    fn read(
        &self,
        part: usize,
        series: &CutSeries,
        chunk: &ClosedChunk,
    ) -> Result<Option<ChunkData>> {
        let Some(file) = self.files[part].get(&chunk.file) else {
            let text = format!("head-chunk file {} of partition {part} is gone", chunk.file);
            return Err(Error::invalid(text));
        };
        self.in_block(part, chunk, file.read(chunk, series.reference)?)
    }

    /// A chunk, or the part of it that lies in the block.
    fn in_block(
        &self,
        part: usize,
        chunk: &ClosedChunk,
        data: Vec<u8>,
    ) -> Result<Option<ChunkData>> {
        let (min_time_ms, max_time_ms) = (chunk.start_ms, chunk.end_ms());
        if self.meta.contains(min_time_ms) && self.meta.contains(max_time_ms) {
            let data = Bytes::from(data);
            return Ok(Some(ChunkData { encoding: Encoding::Xor, min_time_ms, max_time_ms, data }));
        }
        // It was filled when blocks were longer.
        let path = self.files[part].get(&chunk.file).map_or(Path::new(""), |it| it.path());
        chunk::retain(Encoding::Xor, &data, |at| self.meta.contains(at)).map_err(|it| match it {
            DecodeError::Damaged(damage) => damage.within(path),
            DecodeError::Unsupported(_) => Error::invalid(it.to_string()),
        })
    }

    /// Fails the log when the log can make the chunk again: the rebuild does, and the window is
    /// cut afterwards. Once per window, so that a disk that never gives back what it took does
    /// not hold up the cut for ever.
    fn make_again(&self, number: usize, chunk: &ClosedChunk, error: &Error) -> Result<()> {
        let is_in_log = {
            let covered = self.core.covered_files.lock();
            covered.get(number).is_some_and(|first| chunk.file >= *first)
        };
        let window = Some((self.tenant.clone(), self.meta.max_time_ms));
        if is_in_log
            && std::mem::replace(&mut *self.engine.made_again.lock(), window.clone()) != window
        {
            self.core.log.fail();
            return Err(Error::unavailable(format!("{error}; it is made again from the log")));
        }
        Ok(())
    }

    /// Keeps the bytes of a chunk that is left out, for someone to look at. A copy that cannot be
    /// made is not worth failing for: the loss is reported all the same.
    fn keep_copy(&self, part: usize, chunk: &ClosedChunk) {
        let Some(file) = self.files[part].get(&chunk.file) else { return };
        let name = file.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let quarantine = &self.engine.layout.quarantine;
        let path = quarantine.join(format!("{name}-{}", chunk.offset));
        let copied = file.read_raw(chunk).and_then(|bytes| {
            let copy = self.engine.fs.create(&path).map_err(Error::io("create", &path))?;
            copy.append(&bytes).map_err(Error::io("append to", &path))
        });
        drop(copied);
    }
}

/// Where a chunk lies, and which one of a window it is.
struct Place {
    part: usize,
    chunk: ClosedChunk,
    reference: u64,
    index: usize,
}

impl Place {
    /// Where its record ends in the file.
    fn end(&self) -> usize {
        self.chunk.offset as usize + self.chunk.record_bytes()
    }
}

/// Whether the second of two places is read together with the first of a run.
fn is_near(first: &Place, pair: &[Place]) -> bool {
    let (before, it) = (&pair[0], &pair[1]);
    let is_same_file = (it.part, it.chunk.file) == (first.part, first.chunk.file);
    let gap = (it.chunk.offset as usize).saturating_sub(before.end());
    is_same_file && gap <= GAP_BYTES_MAX && it.end() - first.chunk.offset as usize <= RUN_BYTES_MAX
}
