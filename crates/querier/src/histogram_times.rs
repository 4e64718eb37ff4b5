//! The times of the samples in a chunk of native histograms, whose content is read past.
//!
//! Format: Prometheus, `tsdb/docs/format/chunks.md` ("Histogram chunk data"). A sample is only
//! found behind all fields of the ones before it, so that each of them has to be read.

/// A sample that says that its series ended has this sum, and no buckets.
const STALE_BITS: u64 = 0x7ff0_0000_0000_0002;
/// The schema of histograms that name the bounds of their buckets.
const CUSTOM_BOUNDS: i64 = -53;
/// Bytes before the layout: the number of samples and the flags.
const HEADER_BYTES: usize = 3;
/// Bits of the numbers after each length of prefix.
const WIDTHS: [u32; 9] = [0, 3, 6, 9, 12, 18, 25, 56, 64];

/// How the counts of the buckets are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counts {
    /// As whole numbers.
    Integer,
    /// As floats.
    Float,
}

/// Calls `met` with the time of every sample in ms since the Unix epoch, in order, and with the sum
/// of its observations, which tells a staleness marker from a histogram.
///
/// # Errors
/// What is wrong with the chunk; the times before it were given.
pub(crate) fn read(
    counts: Counts,
    data: &[u8],
    mut met: impl FnMut(i64, f64),
) -> Result<(), String> {
    let Some((header, _)) = data.split_first_chunk::<HEADER_BYTES>() else {
        return Err(CUT_SHORT.to_owned());
    };
    let samples = u16::from_be_bytes([header[0], header[1]]);
    let mut bits = Bits { bytes: data, position: 8 * HEADER_BYTES };
    if samples == 0 {
        return Ok(());
    }
    let buckets = bits.layout()?;
    let mut time_ms = bits.int()?;
    let mut sample = Sample::first(&mut bits, counts, buckets)?;
    met(time_ms, f64::from_bits(sample.sum.bits));
    let mut delta_ms = 0_i64;
    for number in 1..samples {
        let change = if number == 1 { bits.uint()?.cast_signed() } else { bits.int()? };
        sample.advance(&mut bits)?;
        delta_ms = delta_ms.wrapping_add(change);
        let next_ms = time_ms.checked_add(delta_ms).filter(|it| *it > time_ms);
        time_ms = next_ms.ok_or("the times of its histograms do not increase")?;
        met(time_ms, f64::from_bits(sample.sum.bits));
    }
    Ok(())
}

const CUT_SHORT: &str = "it ends before its last histogram";

/// What must be known of a sample to find the end of the next one.
struct Sample {
    sum: Float,
    /// Number of buckets.
    buckets: usize,
    /// Count, count of the zero bucket, and those of the buckets, where they are floats.
    floats: Vec<Float>,
    counts: Counts,
}

impl Sample {
    /// Reads what follows the time of the first sample.
    fn first(bits: &mut Bits<'_>, counts: Counts, buckets: usize) -> Result<Sample, String> {
        let mut sample = Sample { sum: Float::default(), buckets, floats: Vec::new(), counts };
        if counts == Counts::Integer {
            bits.uint()?;
            bits.uint()?;
            sample.sum.bits = bits.take(64)?;
            sample.skip_buckets(bits)?;
            return Ok(sample);
        }
        // Nothing is allocated for buckets that cannot be there.
        if buckets > bits.left() / 64 {
            return Err(CUT_SHORT.to_owned());
        }
        sample.floats.reserve_exact(buckets + 2);
        for _ in 0..2 {
            sample.floats.push(Float::of(bits.take(64)?));
        }
        sample.sum.bits = bits.take(64)?;
        for _ in 0..buckets {
            sample.floats.push(Float::of(bits.take(64)?));
        }
        Ok(sample)
    }

    /// Reads what follows the time of a later sample.
    fn advance(&mut self, bits: &mut Bits<'_>) -> Result<(), String> {
        if self.counts == Counts::Integer {
            bits.int()?;
            bits.int()?;
            self.sum.advance(bits)?;
            return if self.sum.bits == STALE_BITS { Ok(()) } else { self.skip_buckets(bits) };
        }
        let (totals, buckets) = self.floats.split_at_mut(2);
        totals.iter_mut().try_for_each(|it| it.advance(bits))?;
        self.sum.advance(bits)?;
        if self.sum.bits == STALE_BITS {
            return Ok(());
        }
        buckets.iter_mut().try_for_each(|it| it.advance(bits))
    }

    fn skip_buckets(&self, bits: &mut Bits<'_>) -> Result<(), String> {
        (0..self.buckets).try_for_each(|_| bits.int().map(|_| ()))
    }
}

/// A float that is written as its difference to the one before.
#[derive(Clone, Copy, Default)]
struct Float {
    bits: u64,
    leading: u32,
    trailing: u32,
}

impl Float {
    fn of(bits: u64) -> Float {
        Float { bits, ..Float::default() }
    }

    fn advance(&mut self, bits: &mut Bits<'_>) -> Result<(), String> {
        if bits.take(1)? == 0 {
            return Ok(());
        }
        if bits.take(1)? == 1 {
            self.leading = bits.small(5)?;
            let width = match bits.small(6)? {
                0 => 64,
                width => width,
            };
            let trailing = (64 - self.leading).checked_sub(width);
            self.trailing = trailing.ok_or("a float in it has more than 64 bits")?;
        }
        let width = 64 - self.leading - self.trailing;
        self.bits ^= bits.take(width)? << self.trailing;
        Ok(())
    }
}

/// Bits, from the highest of each byte to its lowest.
struct Bits<'a> {
    bytes: &'a [u8],
    /// Number of bits that were read.
    position: usize,
}

impl Bits<'_> {
    /// Number of bits that were not read.
    fn left(&self) -> usize {
        (8 * self.bytes.len()).saturating_sub(self.position)
    }

    /// The next `width` bits, at most 64, as a number.
    fn take(&mut self, width: u32) -> Result<u64, String> {
        let mut value = 0;
        let mut wanted = width;
        while wanted > 0 {
            let byte = self.bytes.get(self.position / 8).ok_or(CUT_SHORT)?;
            // Both are at most 8.
            let offset = u32::try_from(self.position % 8).unwrap_or(0);
            let taken = wanted.min(8 - offset);
            let shifted = (u64::from(*byte) >> (8 - offset - taken)) & ((1 << taken) - 1);
            value = (value << taken) | shifted;
            self.position += usize::try_from(taken).unwrap_or(0);
            wanted -= taken;
        }
        Ok(value)
    }

    /// The next `width` bits, at most 32.
    fn small(&mut self, width: u32) -> Result<u32, String> {
        Ok(u32::try_from(self.take(width)?).unwrap_or(u32::MAX))
    }

    /// The width of the number that follows: a one for each step, and a zero unless it is the last.
    fn width(&mut self) -> Result<u32, String> {
        let mut steps = 0;
        while steps < WIDTHS.len() - 1 && self.take(1)? == 1 {
            steps += 1;
        }
        Ok(WIDTHS[steps])
    }

    fn uint(&mut self) -> Result<u64, String> {
        let width = self.width()?;
        self.take(width)
    }

    /// A signed number: the upper half of the range of its width is negative, the border is not.
    fn int(&mut self) -> Result<i64, String> {
        let width = self.width()?;
        let value = self.take(width)?;
        if width == 0 || width == 64 || value <= 1 << (width - 1) {
            return Ok(value.cast_signed());
        }
        Ok(value.cast_signed() - (1 << width))
    }

    /// Reads the layout, which all samples share, and answers the number of buckets.
    fn layout(&mut self) -> Result<usize, String> {
        const WHOLE_THRESHOLD: u64 = 255;
        if self.take(8)? == WHOLE_THRESHOLD {
            self.take(64)?;
        }
        let schema = self.int()?;
        let mut buckets = 0_usize;
        // Spans of buckets of positive values, and of negative ones.
        for _ in 0..2 {
            for _ in 0..self.uint()? {
                let length = usize::try_from(self.uint()?).unwrap_or(usize::MAX);
                self.int()?;
                buckets = buckets.saturating_add(length);
            }
        }
        if schema == CUSTOM_BOUNDS {
            for _ in 0..self.uint()? {
                // Zero: the bound follows as a float.
                if self.uint()? == 0 {
                    self.take(64)?;
                }
            }
        }
        // Each takes a bit at least; this ends what could run for long before it met the end.
        if buckets > self.left() {
            return Err(CUT_SHORT.to_owned());
        }
        Ok(buckets)
    }
}

#[cfg(test)]
mod tests;
