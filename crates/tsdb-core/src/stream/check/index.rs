//! The index of a block: table of contents, symbols, series, then whatever they point to.

use std::sync::Arc;

use super::chunks::ChunkCheck;
use super::{Context, Report, postings};
use crate::error::{Damage, Error, Result};
use crate::index::series::{LENGTH_BYTES_MAX, entry_bytes};
use crate::index::{HEADER_BYTES, SERIES_ALIGN_BYTES, SeriesEntry, TOC_BYTES, Toc, Version};
use crate::stream::symbols::SymbolRun;
use crate::stream::window::Window;

/// Checks the index and everything that it points to.
pub(super) fn check(
    context: &Context<'_>,
    report: &mut Report,
    progress: &mut dyn FnMut(u64) -> bool,
) -> Result<()> {
    let source = context.source;
    let file = source.index.name();
    let block = source.meta.ulid;
    let mut window =
        Window::new(block, Arc::clone(&source.index), context.window_bytes, context.budget)?;
    let size_bytes = window.file_bytes();
    if size_bytes < (HEADER_BYTES + TOC_BYTES) as u64 {
        report.add(file, Damage::new("index", 0, format!("{size_bytes} bytes are no index")));
        return Ok(());
    }
    let header = source.index.read(0..HEADER_BYTES as u64);
    let toc = source.index.read(size_bytes - TOC_BYTES as u64..size_bytes);
    let (Some(header), Some(toc)) = (report.keep(header)?, report.keep(toc)?) else {
        return Ok(());
    };
    let version = Version::decode(&header).map_err(|it| report.add(file, it));
    let toc = Toc::decode(&toc, size_bytes).map_err(|it| report.add(file, it));
    let (Ok(version), Ok(toc)) = (version, toc) else { return Ok(()) };
    let run = SymbolRun::open(&mut window, toc.symbols..toc.series, version);
    let symbols = run.and_then(SymbolRun::references);
    let symbols = report.keep(symbols)?;
    let has_indices = (toc.series..toc.postings).contains(&toc.label_indices);
    let mut series = SeriesCheck {
        context,
        version,
        end: if has_indices { toc.label_indices } else { toc.postings },
        window,
        symbols,
        chunks: ChunkCheck::new(context),
        references: Vec::new(),
        is_whole: true,
    };
    series.run(toc.series, report, progress)?;
    let SeriesCheck { window, references, is_whole, .. } = series;
    // Where series are missing, lists that name them say nothing new.
    let references = is_whole.then_some(&references[..]);
    postings::check(context, window, (toc, version, references), report)
}

/// The series section.
struct SeriesCheck<'a> {
    context: &'a Context<'a>,
    version: Version,
    /// Where the section ends.
    end: u64,
    window: Window,
    /// References of all symbols, unless these are damaged.
    symbols: Option<Vec<u32>>,
    chunks: ChunkCheck<'a>,
    /// References of the series that could be read.
    references: Vec<u32>,
    /// Whether all series could be read.
    is_whole: bool,
}

/// What lies at an offset of the section.
enum Place {
    /// An entry of so many bytes.
    Entry(u64),
    /// Zeros in front of the next section.
    Padding,
}

impl SeriesCheck<'_> {
    fn run(
        &mut self,
        start: u64,
        report: &mut Report,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<()> {
        let step = if self.version == Version::V2 { SERIES_ALIGN_BYTES } else { 1 };
        let (mut entry, mut before) = (SeriesEntry::default(), None::<SeriesEntry>);
        let (mut at, mut is_lost) = (start.next_multiple_of(step), false);
        while at < self.end {
            if !progress(at + self.chunks.read_bytes()) {
                return Err(Error::Cancelled);
            }
            match self.read(at, &mut entry) {
                Ok(Place::Padding) => at += step,
                Ok(Place::Entry(length)) => {
                    is_lost = false;
                    self.check_entry(at, &entry, before.as_ref(), report)?;
                    before.get_or_insert_default().clone_from(&entry);
                    at = (at + length).next_multiple_of(step);
                }
                Err(Error::BlockDamaged { file, damage, .. }) => {
                    // The next entry is found by its checksum; what lies between is one damage.
                    if !std::mem::replace(&mut is_lost, true) {
                        report.add(&file, damage);
                    }
                    self.is_whole = false;
                    at += step;
                }
                Err(error) => return Err(error),
            }
            self.window.forget_slices()?;
        }
        Ok(())
    }

    fn read(&mut self, at: u64, entry: &mut SeriesEntry) -> Result<Place> {
        let there = usize::try_from(self.end - at).unwrap_or(usize::MAX);
        let head_bytes = LENGTH_BYTES_MAX.min(there);
        let head = self.window.get(at, head_bytes)?;
        let head = head.get(..head_bytes.min(head.len())).unwrap_or_default();
        if head.first() == Some(&0) {
            let padding = if self.version == Version::V2 { SERIES_ALIGN_BYTES } else { 1 };
            if self.version == Version::V1 || (there as u64) < padding {
                return Ok(Place::Padding);
            }
            return Err(self.damage(at, "there is nothing".to_owned()));
        }
        let length = entry_bytes(head, at).map_err(|it| self.window.damaged(it))?;
        let fits = length.and_then(|it| usize::try_from(it).ok()).filter(|it| *it <= there);
        let Some(length) = fits else {
            let text = format!("it is longer than the {there} bytes left in the section");
            return Err(self.damage(at, text));
        };
        let bytes = self.window.get(at, length)?;
        entry.decode(bytes, at).map_err(|it| self.window.damaged(it))?;
        Ok(Place::Entry(length as u64))
    }

    /// Checks what the checksum does not.
    fn check_entry(
        &mut self,
        at: u64,
        entry: &SeriesEntry,
        before: Option<&SeriesEntry>,
        report: &mut Report,
    ) -> Result<()> {
        let file = self.context.source.index.name();
        let mut add = |text: String| report.add(file, Damage::new("series", at, text));
        let reference = match self.version {
            Version::V1 => at,
            Version::V2 => at / SERIES_ALIGN_BYTES,
        };
        match u32::try_from(reference) {
            Ok(reference) => self.references.push(reference),
            Err(_) => add("it lies too far behind".to_owned()),
        }
        if entry.labels.windows(2).any(|it| it[1].0 <= it[0].0) {
            add("its labels are out of order or there twice".to_owned());
        }
        if let Some(before) = before.filter(|it| it.labels >= entry.labels) {
            add(match before.labels == entry.labels {
                true => "it has the labels of the series before".to_owned(),
                false => "it is out of order".to_owned(),
            });
        }
        if let Some(symbols) = &self.symbols {
            let used = entry.labels.iter().flat_map(|(name, value)| [*name, *value]);
            for symbol in used.filter(|it| symbols.binary_search(it).is_err()) {
                add(format!("symbol {symbol} does not exist"));
            }
        }
        report.checked.series += 1;
        report.checked.chunks += entry.chunks.len() as u64;
        self.chunks.check(at, &entry.chunks, report)
    }

    fn damage(&self, at: u64, reason: String) -> Error {
        self.window.damaged(Damage::new("series", at, reason))
    }
}
