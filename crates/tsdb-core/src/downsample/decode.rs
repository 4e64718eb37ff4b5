//! Decodes chunks without their start timestamps, which no aggregate has.

use model::Columns;

use crate::chunk::{self, DecodeError, Encoding};

/// Appends a chunk's samples to columns that have no start timestamps and get none.
///
/// # Errors
/// When it is damaged; the columns then hold what came before the damage.
pub(super) fn decode(
    encoding: Encoding,
    data: &[u8],
    columns: &mut Columns,
) -> Result<(), DecodeError> {
    if matches!(encoding, Encoding::Xor | Encoding::Histogram | Encoding::FloatHistogram) {
        return chunk::decode(encoding, data, columns);
    }
    // Beside start timestamps, all samples before would have to get some.
    let mut apart = Columns::default();
    let result = chunk::decode(encoding, data, &mut apart);
    columns.timestamps_ms.append(&mut apart.timestamps_ms);
    columns.values.append(&mut apart.values);
    columns.histogram_timestamps_ms.append(&mut apart.histogram_timestamps_ms);
    columns.histograms.append(&mut apart.histograms);
    result
}
