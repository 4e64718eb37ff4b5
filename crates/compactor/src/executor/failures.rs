//! What the failures of reading, merging and writing blocks mean for a job.

use crate::executor::{Balance, Failure};

impl From<tsdb_core::compact::Balance> for Balance {
    fn from(balance: tsdb_core::compact::Balance) -> Balance {
        let tsdb_core::compact::Balance { in_samples, out_samples, dropped, lost } = balance;
        Balance { in_samples, out_samples, dropped, notes: lost }
    }
}

impl From<tsdb_core::error::Error> for Failure {
    /// Damage is named with its block. What the surroundings are to blame for is tried again,
    /// however hopeless it looks: access may be granted, a disk be emptied.
    fn from(error: tsdb_core::error::Error) -> Failure {
        use tsdb_core::error::Error;
        match error {
            Error::BlockDamaged { block, file, damage } => {
                Failure::Damaged { block, place: file, what: damage.to_string() }
            }
            Error::Unbalanced { balance } => Failure::Unbalanced((*balance).into()),
            Error::Cancelled => Failure::Stopped,
            // How much a job needs of scratch space follows from its sources alone.
            Error::Unsupported { .. } | Error::Invalid { .. } | Error::Scratch { .. } => {
                Failure::Hopeless(error.to_string())
            }
            // A call that the store can never take, as it is set up.
            Error::Stream { ref source, .. }
                if matches!(source.downcast_ref(), Some(objstore::Error::Invalid { .. })) =>
            {
                Failure::Hopeless(error.to_string())
            }
            Error::Corrupt { .. }
            | Error::Stream { .. }
            | Error::Io { .. }
            | Error::Budget(_)
            | Error::Unavailable { .. } => Failure::Transient(error.into()),
        }
    }
}

impl From<bucket::Error> for Failure {
    fn from(error: bucket::Error) -> Failure {
        match error {
            bucket::Error::Incomplete { id, missing } => Failure::Damaged {
                block: id,
                place: bucket::layout::prefix(id),
                what: format!("it is not complete: {}", missing.join(", ")),
            },
            bucket::Error::Corrupt { key, damage } => match bucket::layout::parse(&key) {
                Some((block, _)) => {
                    let what = damage.to_string();
                    Failure::Damaged { block, place: key, what }
                }
                None => Failure::Hopeless(format!("{key}: {damage}")),
            },
            bucket::Error::Local(error) => error.into(),
            bucket::Error::Unfit { .. } | bucket::Error::MarkVersion { .. } => {
                Failure::Hopeless(error.to_string())
            }
            bucket::Error::Store(_)
            | bucket::Error::Unverified { .. }
            | bucket::Error::Unsure { .. } => Failure::Transient(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tsdb_core::error::Error;

    use super::*;

    #[test]
    fn a_call_that_the_store_never_takes_is_not_made_again_and_any_other_is() {
        let (key, what) = ("x/index".to_owned(), "disable_multipart is set".to_owned());
        let denied =
            objstore::Error::Denied { operation: "put", key: key.clone(), cause: "no".into() };
        let invalid = objstore::Error::Invalid { key: key.clone(), reason: what };
        for (source, is_hopeless) in [(denied, false), (invalid, true)] {
            let error = Error::Stream {
                operation: "write",
                name: key.clone(),
                is_transient: false,
                source: source.into(),
            };
            let failure = Failure::from(error);
            assert_eq!(matches!(&failure, Failure::Hopeless(_)), is_hopeless, "{failure:?}");
            assert_eq!(failure.to_string().contains("disable_multipart"), is_hopeless);
        }
    }

    #[test]
    fn a_job_that_needs_more_scratch_space_than_there_is_is_not_tried_again() {
        let failure = Failure::from(Error::Scratch { needed_bytes: 30, limit_bytes: 20 });
        assert!(matches!(&failure, Failure::Hopeless(_)), "{failure:?}");
        assert!(failure.to_string().contains("30 bytes of scratch space"), "{failure}");
    }
}
