//! SipHash with 128 bits of output: a keyed hash whose collisions nobody finds without the key.
//!
//! After Aumasson and Bernstein, "SipHash: a fast short-input PRF" (2012), and the variant with
//! 128 bits of its reference implementation.

/// The state: `COMPRESS` rounds per word of input, `FINISH` for each half of the output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SipHash<const COMPRESS: usize, const FINISH: usize>([u64; 4]);

impl<const COMPRESS: usize, const FINISH: usize> SipHash<COMPRESS, FINISH> {
    pub(crate) fn new([k0, k1]: [u64; 2]) -> Self {
        SipHash([
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d ^ 0xee,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        ])
    }

    /// Takes eight bytes of input.
    pub(crate) fn word(&mut self, word: u64) {
        self.0[3] ^= word;
        self.rounds(COMPRESS);
        self.0[0] ^= word;
    }

    /// Takes the rest of the input and answers the hash. `length_before` is the number of bytes
    /// that were taken as words.
    pub(crate) fn finish(mut self, bytes: &[u8], length_before: usize) -> u128 {
        let (words, tail) = bytes.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..tail.len()].copy_from_slice(tail);
        // The lowest byte of the length, as the function is defined.
        last[7] = (length_before + bytes.len()).to_le_bytes()[0];
        self.word(u64::from_le_bytes(last));
        self.0[2] ^= 0xee;
        self.rounds(FINISH);
        let low = self.0[0] ^ self.0[1] ^ self.0[2] ^ self.0[3];
        self.0[1] ^= 0xdd;
        self.rounds(FINISH);
        let high = self.0[0] ^ self.0[1] ^ self.0[2] ^ self.0[3];
        u128::from(high) << 64 | u128::from(low)
    }

    fn rounds(&mut self, count: usize) {
        let [mut a, mut b, mut c, mut d] = self.0;
        for _ in 0..count {
            a = a.wrapping_add(b);
            b = b.rotate_left(13) ^ a;
            a = a.rotate_left(32);
            c = c.wrapping_add(d);
            d = d.rotate_left(16) ^ c;
            a = a.wrapping_add(d);
            d = d.rotate_left(21) ^ a;
            c = c.wrapping_add(b);
            b = b.rotate_left(17) ^ c;
            c = c.rotate_left(32);
        }
        self.0 = [a, b, c, d];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_vectors_come_out() {
        let key = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        let message: Vec<u8> = (0..15).collect();
        let hash = |length| {
            let sip = SipHash::<2, 4>::new(key);
            sip.finish(&message[..length], 0).to_le_bytes()
        };
        let expected = 0xa381_7f04_ba25_a8e6_6df6_7214_c755_0293_u128.to_be_bytes();
        assert_eq!(hash(0), expected);
        let expected = 0xda87_c1d8_6b99_af44_3476_5911_9b22_fc45_u128.to_be_bytes();
        assert_eq!(hash(1), expected);
        let mut in_words = SipHash::<2, 4>::new(key);
        in_words.word(0x0706_0504_0302_0100);
        assert_eq!(in_words.finish(&message[8..], 8).to_le_bytes(), hash(15));
    }
}
