//! The client's attributes inside a manifest: sorted, so that equal attributes give equal bytes.

use object_store::{Attribute, Attributes};

use crate::error::{Error, ErrorKind, Result};
use crate::format::wire::{Reader, Writer};

/// Most attributes of one object.
pub const ATTRIBUTES_LIMIT: usize = 256;
/// Longest name or value of an attribute, in bytes.
pub const ATTRIBUTES_LIMIT_BYTES: usize = 8192;

const METADATA: u8 = 7;

/// Whether a manifest can hold these attributes, so that nothing need be uploaded to learn that it cannot.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] when they are over their limits, [`ErrorKind::Unsupported`] for one of a kind unknown here.
pub fn check_attributes(attributes: &Attributes) -> Result<()> {
    rows(attributes).map(|_| ())
}

pub(super) fn encode(attributes: &Attributes, out: &mut Writer) -> Result<()> {
    let (count, mut rows) = rows(attributes)?;
    rows.sort_unstable();
    out.u16(count);
    for (kind, name, value) in rows {
        out.u8(kind).bytes(name.as_bytes())?.bytes(value.as_bytes())?;
    }
    Ok(())
}

type Row<'a> = (u8, &'a str, &'a str);

fn rows(attributes: &Attributes) -> Result<(u16, Vec<Row<'_>>)> {
    let count = u16::try_from(attributes.len()).ok().filter(|count| usize::from(*count) <= ATTRIBUTES_LIMIT);
    let count = count.ok_or_else(|| Error::new(ErrorKind::InvalidInput, "an object has at most 256 attributes"))?;
    Ok((count, attributes.iter().map(|(name, value)| row(name, value)).collect::<Result<_>>()?))
}

fn row<'a>(name: &'a Attribute, value: &'a str) -> Result<Row<'a>> {
    let (kind, key) = match name {
        Attribute::ContentDisposition => (1, ""),
        Attribute::ContentEncoding => (2, ""),
        Attribute::ContentLanguage => (3, ""),
        Attribute::ContentType => (4, ""),
        Attribute::CacheControl => (5, ""),
        Attribute::StorageClass => (6, ""),
        Attribute::Metadata(key) => (METADATA, key.as_ref()),
        other => {
            return Err(Error::new(ErrorKind::Unsupported, "an attribute of a kind that this version cannot store")
                .with("attribute", format!("{other:?}")));
        }
    };
    if key.len().max(value.len()) > ATTRIBUTES_LIMIT_BYTES {
        return Err(
            Error::new(ErrorKind::InvalidInput, "an attribute's name and value have at most 8192 bytes each").with("attribute", key)
        );
    }
    Ok((kind, key, value))
}

pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Attributes> {
    let count = usize::from(reader.u16()?);
    if count > ATTRIBUTES_LIMIT {
        return Err(super::corrupt("too many attributes").with("attributes", count));
    }
    let mut attributes = Attributes::with_capacity(count);
    for _ in 0..count {
        let kind = reader.u8()?;
        let key = text(reader)?;
        let value = text(reader)?;
        let name = match kind {
            1 => Attribute::ContentDisposition,
            2 => Attribute::ContentEncoding,
            3 => Attribute::ContentLanguage,
            4 => Attribute::ContentType,
            5 => Attribute::CacheControl,
            6 => Attribute::StorageClass,
            METADATA => Attribute::Metadata(key.clone().into()),
            other => return Err(super::corrupt("an attribute of an unknown kind").with("kind", other)),
        };
        if kind != METADATA && !key.is_empty() {
            return Err(super::corrupt("an attribute has a name that it cannot have"));
        }
        if attributes.insert(name, value.into()).is_some() {
            return Err(super::corrupt("an attribute stands twice"));
        }
    }
    Ok(attributes)
}

fn text(reader: &mut Reader<'_>) -> Result<String> {
    let bytes = reader.bytes(ATTRIBUTES_LIMIT_BYTES)?;
    Ok(std::str::from_utf8(bytes).map_err(|e| super::corrupt("an attribute is not UTF-8").caused_by(e))?.to_owned())
}
