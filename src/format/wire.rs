//! The primitives of every binary format: little-endian integers and length-prefixed bytes.
//!
//! A [`Reader`] never allocates more than what it was given, and every length is checked before it is used.

use crate::error::{Error, ErrorKind, Result};

/// Appends values to a buffer.
#[derive(Debug, Clone, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// An empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.raw(&[value])
    }

    /// Two bytes, little-endian.
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// Four bytes, little-endian.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// Eight bytes, little-endian.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// Eight bytes, little-endian, two's complement.
    pub fn i64(&mut self, value: i64) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// A length of four bytes, then the bytes.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for 4 GiB and more.
    pub fn bytes(&mut self, value: &[u8]) -> Result<&mut Self> {
        let len = u32::try_from(value.len())
            .map_err(|e| Error::new(ErrorKind::InvalidInput, "a field is longer than 4 GiB").with("bytes", value.len()).caused_by(e))?;
        Ok(self.u32(len).raw(value))
    }

    /// The bytes alone; their length is known to the reader.
    pub fn raw(&mut self, value: &[u8]) -> &mut Self {
        self.0.extend_from_slice(value);
        self
    }

    /// How many bytes were written so far.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What was written so far, for digests and signatures over it.
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }

    /// The buffer.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Takes values from a slice. Every error is [`ErrorKind::Corrupt`].
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    /// A reader at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, position: 0 }
    }

    /// How many bytes were taken so far.
    pub fn position(&self) -> usize {
        self.position
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    fn cut(&self) -> Error {
        Error::new(ErrorKind::Corrupt, "a record ends before its time").with("offset", self.position)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or_else(|| self.cut())?;
        self.rest = rest;
        self.position += N;
        Ok(*head)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8> {
        self.array().map(u8::from_le_bytes)
    }

    /// Two bytes, little-endian.
    pub fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_le_bytes)
    }

    /// Four bytes, little-endian.
    pub fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// Eight bytes, little-endian.
    pub fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// Eight bytes, little-endian, two's complement.
    pub fn i64(&mut self) -> Result<i64> {
        self.array().map(i64::from_le_bytes)
    }

    /// A length of four bytes, then as many bytes, at most `limit_bytes`.
    pub fn bytes(&mut self, limit_bytes: usize) -> Result<&'a [u8]> {
        let at = self.position;
        let len = usize::try_from(self.u32()?).unwrap_or(usize::MAX);
        if len > limit_bytes {
            return Err(Error::new(ErrorKind::Corrupt, "a field is longer than its format allows")
                .with("offset", at)
                .with("bytes", len)
                .with("limit", limit_bytes));
        }
        self.raw(len)
    }

    /// Exactly `len` bytes.
    pub fn raw(&mut self, len: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or_else(|| self.cut())?;
        self.rest = rest;
        self.position += len;
        Ok(head)
    }

    /// Exactly `N` bytes, as an array.
    pub fn fixed<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.array()
    }

    /// Refuses bytes after the last field.
    pub fn done(&self) -> Result<()> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Corrupt, "bytes follow the last field of a record")
            .with("offset", self.position)
            .with("bytes", self.rest.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut writer = Writer::new();
        writer.u8(1).u16(0x0203).u32(0x0405_0607).u64(8).i64(-9);
        writer.bytes(b"name").unwrap().raw(b"xy");
        writer.finish()
    }

    #[test]
    fn fields_read_back_in_little_endian() {
        let bytes = sample();
        assert_eq!(&bytes[..7], [1, 3, 2, 7, 6, 5, 4]);
        let mut reader = Reader::new(&bytes);
        assert_eq!((reader.u8().unwrap(), reader.u16().unwrap(), reader.u32().unwrap()), (1, 0x0203, 0x0405_0607));
        assert_eq!((reader.u64().unwrap(), reader.i64().unwrap()), (8, -9));
        assert_eq!(reader.bytes(4).unwrap(), b"name");
        assert_eq!(reader.done().unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(reader.fixed::<2>().unwrap(), *b"xy");
        reader.done().unwrap();
    }

    #[test]
    fn every_truncation_is_an_error() {
        let bytes = sample();
        for len in 0..bytes.len() {
            let mut reader = Reader::new(&bytes[..len]);
            let read = (|| {
                reader.u8()?;
                reader.u16()?;
                reader.u32()?;
                reader.u64()?;
                reader.i64()?;
                reader.bytes(4)?;
                reader.raw(2).map(|_| ())
            })();
            assert_eq!(read.unwrap_err().kind(), ErrorKind::Corrupt, "cut at {len}");
        }
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_it_is_used() {
        let mut reader = Reader::new(&[0xff, 0xff, 0xff, 0xff, 0]);
        assert_eq!(reader.bytes(10).unwrap_err().kind(), ErrorKind::Corrupt);
        assert_eq!(Reader::new(&[2, 0, 0, 0, 1, 1]).bytes(1).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
