//! The chunks of a series: where they lie, what they hold, and whether the index says the same.

use super::{Context, Report};
use crate::block::segments::{self, file_name};
use crate::chunk::{self, DecodeError, Encoding, Timed, aggregate};
use crate::error::{Damage, Result};
use crate::index::ChunkMeta;
use crate::stream::frames::{Frame, FrameReader};

/// Checks chunks in the order in which the series name them.
pub(super) struct ChunkCheck<'a> {
    context: &'a Context<'a>,
    reader: FrameReader,
    segments_bytes: Vec<u64>,
    frames: Vec<Frame>,
    samples: Vec<Timed>,
}

impl<'a> ChunkCheck<'a> {
    pub(super) fn new(context: &'a Context<'a>) -> ChunkCheck<'a> {
        ChunkCheck {
            context,
            reader: FrameReader::new(context.source, context.window_bytes, context.budget),
            segments_bytes: context.source.segments.iter().map(|it| it.size_bytes()).collect(),
            frames: Vec::new(),
            samples: Vec::new(),
        }
    }

    /// Bytes of chunks that were read.
    pub(super) fn read_bytes(&self) -> u64 {
        self.reader.read_bytes()
    }

    /// Checks the chunks of the series whose entry begins at `at`.
    pub(super) fn check(
        &mut self,
        at: u64,
        chunks: &[ChunkMeta],
        report: &mut Report,
    ) -> Result<()> {
        let file = self.context.source.index.name();
        let mut before: Option<&ChunkMeta> = None;
        for chunk in chunks {
            let (min_time_ms, max_time_ms) = (chunk.min_time_ms, chunk.max_time_ms);
            let mut add = |text: String| {
                let text = format!("chunk from {min_time_ms} to {max_time_ms} {text}");
                report.add(file, Damage::new("series", at, text));
            };
            let span = self.context.span;
            if max_time_ms < min_time_ms {
                add("ends before it begins".to_owned());
            } else if !span.contains(min_time_ms) || !span.contains(max_time_ms) {
                add("lies outside of the block".to_owned());
            }
            if let Some(before) = before.filter(|it| min_time_ms <= it.max_time_ms) {
                add(format!("overlaps the one before, which ends at {}", before.max_time_ms));
            }
            before = Some(chunk);
            let segment = chunk.segment();
            let size_bytes = self.segments_bytes.get(segment).copied().unwrap_or(0);
            if (segments::HEADER_BYTES as u64..size_bytes).contains(&chunk.offset()) {
                self.check_data(chunk, report)?;
            } else {
                let name = file_name(segment.min(u32::MAX as usize));
                add(format!("lies at {} of segment {name}, where nothing is", chunk.offset()));
            }
        }
        Ok(())
    }

    fn check_data(&mut self, meta: &ChunkMeta, report: &mut Report) -> Result<()> {
        self.frames.clear();
        let read = self.reader.read(std::slice::from_ref(meta), &mut self.frames);
        if report.keep(read)?.is_none() {
            return Ok(());
        }
        let Some(frame) = self.frames.pop() else { return Ok(()) };
        let segment = self.context.source.segments.get(meta.segment());
        let file = segment.map(|it| it.name()).unwrap_or_default();
        let damaged = |damage: Damage| damage.shifted(meta.offset());
        match chunk::counted_samples(frame.encoding, frame.data()) {
            Ok(count) => report.checked.samples += count,
            Err(damage) => {
                report.add(file, damaged(damage));
                return Ok(());
            }
        }
        let decoded = match frame.encoding {
            Encoding::Aggregate => self.decode_aggregates(frame.data()),
            encoding => self.decode(encoding, frame.data(), Some(meta)),
        };
        if let Err(damage) = decoded {
            report.add(file, damaged(damage));
        }
        Ok(())
    }

    fn decode_aggregates(&mut self, data: &[u8]) -> std::result::Result<(), Damage> {
        let parts = aggregate::split(data)?;
        for part in parts.in_order().into_iter().flatten() {
            let bytes = data.get(part.range.clone()).unwrap_or_default();
            let start = part.range.start as u64;
            self.decode(part.encoding, bytes, None).map_err(|it| it.shifted(start))?;
        }
        Ok(())
    }

    /// Decodes samples and checks their order; `meta` is what the index says of them. Aggregates
    /// have none of their own, and a counter repeats the time of its last sample.
    fn decode(
        &mut self,
        encoding: Encoding,
        data: &[u8],
        meta: Option<&ChunkMeta>,
    ) -> std::result::Result<(), Damage> {
        self.samples.clear();
        match chunk::decode_values(encoding, data, &mut self.samples) {
            Ok(()) => {}
            Err(DecodeError::Damaged(damage)) => return Err(damage),
            // Its checksum is right; that is all that can be said of it.
            Err(DecodeError::Unsupported(_)) => return Ok(()),
        }
        let damage = |reason: String| Err(Damage::new("chunk", 0, reason));
        let declared = usize::from(chunk::sample_count(encoding, data)?);
        if self.samples.len() != declared {
            return damage(format!("{declared} samples declared, {} found", self.samples.len()));
        }
        let times = || self.samples.iter().map(|it| it.timestamp_ms);
        let is_disordered = |(a, b): (i64, i64)| if meta.is_some() { a >= b } else { a > b };
        if times().zip(times().skip(1)).any(is_disordered) {
            return damage("its samples are out of order".to_owned());
        }
        let Some(meta) = meta else { return Ok(()) };
        let (first, last) = (times().next(), times().next_back());
        if (first, last) != (Some(meta.min_time_ms), Some(meta.max_time_ms)) {
            let (min, max) = (meta.min_time_ms, meta.max_time_ms);
            return damage(format!(
                "the index says it lasts from {min} to {max}, it does from {first:?} to {last:?}"
            ));
        }
        Ok(())
    }
}
