//! Bytes and quantities as JSON-RPC writes them: in hexadecimal, after `0x`.
//!
//! Pure. Reads what web3's types do in a fraction of the time, as hashes are most of what a first sync reads; and never what has
//! anything else in it.

use std::marker::PhantomData;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

/// Exactly so many bytes.
pub(super) struct Fixed<const N: usize>(pub [u8; N]);

/// Any number of bytes.
pub(super) struct Data(pub Vec<u8>);

/// A number of up to 64 bits.
pub(super) struct Quantity(pub u64);

/// What is written as a string of digits.
trait Written: Sized {
    const EXPECTED: &str;

    fn read(text: &str) -> Option<Self>;
}

impl<const N: usize> Written for Fixed<N> {
    const EXPECTED: &str = "bytes in hexadecimal, as many as the type has";

    fn read(text: &str) -> Option<Self> {
        let mut bytes = [0; N];
        const_hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }
}

impl Written for Data {
    const EXPECTED: &str = "bytes in hexadecimal";

    fn read(text: &str) -> Option<Self> {
        text.starts_with("0x").then(|| const_hex::decode(text).ok()).flatten().map(Self)
    }
}

impl Written for Quantity {
    const EXPECTED: &str = "a number in hexadecimal";

    fn read(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("0x").unwrap_or(text);
        let is_plain = digits.len() <= 16 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        is_plain.then(|| u64::from_str_radix(digits, 16).ok()).flatten().map(Self)
    }
}

struct Reader<T>(PhantomData<T>);

impl<T: Written> Visitor<'_> for Reader<T> {
    type Value = T;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        T::read(text).ok_or_else(|| E::invalid_value(Unexpected::Str("another text"), &self))
    }
}

impl<'de, const N: usize> Deserialize<'de> for Fixed<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Reader(PhantomData))
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Reader(PhantomData))
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Reader(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::DeserializeOwned;
    use web3::types::{Bytes, H160, U64};

    use super::*;

    fn read<T: DeserializeOwned>(json: &str) -> Option<T> {
        serde_json::from_str(json).ok()
    }

    /// What is taken is taken for what web3 takes it for; that also takes spaces and line ends.
    fn assert_as_web3(json: &str) {
        if let Some(Fixed(bytes)) = read::<Fixed<20>>(json) {
            assert_eq!(Some(H160(bytes)), read(json), "{json}");
        }
        if let Some(Data(bytes)) = read::<Data>(json) {
            assert_eq!(Some(Bytes(bytes)), read(json), "{json}");
        }
        if let Some(Quantity(number)) = read::<Quantity>(json) {
            assert_eq!(Some(U64::from(number)), read(json), "{json}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for (text, number) in [
            ("0x0", Some(0)),
            ("0x01", Some(1)),
            ("1f", Some(31)),
            ("0xffffffffffffffff", Some(u64::MAX)),
            ("0x10000000000000000", None),
            ("", None),
            ("0x", None),
            ("0X1", None),
            ("0x+1", None),
            ("0x-1", None),
            ("0x 1", None),
            ("0x6\\n4", None),
            ("0x0x1", None),
            ("0xg", None),
        ] {
            let json = format!("\"{text}\"");
            assert_eq!(read::<Quantity>(&json).map(|number| number.0), number, "{json}");
        }
        for json in ["1", "null", "[1]", "{\"\":0}", "true", "\"0x1"] {
            assert!(read::<Quantity>(json).is_none() && read::<Fixed<1>>(json).is_none(), "{json}");
        }
    }

    #[test]
    fn bytes_are_as_many_as_they_must_be() {
        for (text, bytes) in [
            ("0x0aB1", Some([0x0a, 0xb1])),
            ("0ab1", Some([0x0a, 0xb1])),
            ("0x0ab", None),
            ("0x0ab100", None),
            ("0x0ab ", None),
            ("0x", None),
        ] {
            assert_eq!(read::<Fixed<2>>(&format!("\"{text}\"")).map(|fixed| fixed.0), bytes, "{text}");
        }
        assert_eq!(read::<Data>("\"0x\"").map(|data| data.0), Some(Vec::new()));
        assert!(read::<Data>("\"00\"").is_none());
    }

    proptest! {
        #[test]
        fn any_text_is_taken_as_web3_takes_it(text in "(0x)?[0-9a-fA-Fx+ ]{0,42}") {
            assert_as_web3(&format!("\"{text}\""));
        }

        #[test]
        fn what_is_well_written_is_taken(bytes: [u8; 20], number: u64) {
            let json = format!("\"{:#x}\"", H160(bytes));
            prop_assert_eq!(read::<Fixed<20>>(&json).map(|fixed| fixed.0), Some(bytes));
            prop_assert_eq!(read::<Data>(&json).map(|data| data.0), Some(bytes.to_vec()));
            prop_assert_eq!(read::<Quantity>(&format!("\"{number:#x}\"")).map(|read| read.0), Some(number));
        }
    }
}
