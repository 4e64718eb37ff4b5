//! The calls of an object store by name: for metrics, retries and faults.

use std::fmt;

/// One kind of call; the names are the values of Thanos' label `operation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A listing.
    Iter,
    /// A whole object.
    Get,
    /// A part of an object.
    GetRange,
    /// Any write.
    Upload,
    /// A removal.
    Delete,
    /// What the store knows of an object.
    Attributes,
    /// The clean-up of uploads that never ended; Thanos has no such call.
    AbortUploads,
}

impl Operation {
    /// All of them, in the order of their `index`.
    pub const ALL: [Operation; 7] = [
        Operation::Iter,
        Operation::Get,
        Operation::GetRange,
        Operation::Upload,
        Operation::Delete,
        Operation::Attributes,
        Operation::AbortUploads,
    ];

    /// The name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Iter => "iter",
            Operation::Get => "get",
            Operation::GetRange => "get_range",
            Operation::Upload => "upload",
            Operation::Delete => "delete",
            Operation::Attributes => "attributes",
            Operation::AbortUploads => "abort_uploads",
        }
    }

    pub(crate) fn index(self) -> usize {
        match self {
            Operation::Iter => 0,
            Operation::Get => 1,
            Operation::GetRange => 2,
            Operation::Upload => 3,
            Operation::Delete => 4,
            Operation::Attributes => 5,
            Operation::AbortUploads => 6,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_is_the_place_in_the_list() {
        for (at, operation) in Operation::ALL.into_iter().enumerate() {
            assert_eq!(operation.index(), at, "{operation}");
        }
    }
}
