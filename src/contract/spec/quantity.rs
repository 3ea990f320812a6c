//! Amounts of processors and memory as a spec writes them (reference 1.1).

/// The smallest memory of an instance: below it Postgres 17 with Patroni beside it does not start reliably.
pub const MEMORY_BYTES_MIN: u64 = 128 * 1024 * 1024;

/// Why an amount cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// It is not of the form that the field has.
    #[error("it is not a number with a unit")]
    Form,
    /// It is too large to count.
    #[error("it is too large")]
    TooLarge,
    /// Less than a thousandth of a processor.
    #[error("cannot be less than 1 millicpu")]
    TooFewCpus,
    /// Less than [`MEMORY_BYTES_MIN`].
    #[error("cannot be less than 128 MiB")]
    TooLittleMemory,
}

/// Thousandths of a processor: `0.5`, `2`, `500m`.
///
/// # Errors
/// See [`QuantityError`].
pub fn cpu_millis(text: &str) -> Result<u64, QuantityError> {
    let millis = match text.strip_suffix('m') {
        Some(digits) => whole(digits)?,
        None => scaled(text, 1000, 3)?,
    };
    if millis == 0 { Err(QuantityError::TooFewCpus) } else { Ok(millis) }
}

/// Bytes: `512MiB`, `2GB`, `1.5 GiB`, `536870912`. One letter and letters with `B` are SI (powers of 1000), letters
/// with `i` are IEC (powers of 1024), as the reference reads them.
///
/// # Errors
/// See [`QuantityError`].
pub fn memory_bytes(text: &str) -> Result<u64, QuantityError> {
    let bytes = bytes(text)?;
    if bytes < MEMORY_BYTES_MIN { Err(QuantityError::TooLittleMemory) } else { Ok(bytes) }
}

/// Bytes, as [`memory_bytes`] reads them, however few.
///
/// # Errors
/// They cannot be read, or counted.
pub fn bytes(text: &str) -> Result<u64, QuantityError> {
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic() || c == ' ').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let unit = unit.trim_start_matches(' ').to_ascii_lowercase();
    let unit = unit.strip_suffix('b').unwrap_or(&unit);
    let (letter, base) = match unit.strip_suffix('i') {
        Some(letter) => (letter, 1024_u64),
        None => (unit, 1000),
    };
    let power = match (letter, base) {
        ("", 1000) => 0,
        ("k", _) => 1,
        ("m", _) => 2,
        ("g", _) => 3,
        ("t", _) => 4,
        ("p", _) => 5,
        _ => return Err(QuantityError::Form),
    };
    scaled(number, base.pow(power), usize::MAX)
}

fn whole(digits: &str) -> Result<u64, QuantityError> {
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(QuantityError::Form);
    }
    digits.parse().map_err(|_| QuantityError::TooLarge)
}

/// A decimal number times `scale`, what is left below one dropped.
fn scaled(text: &str, scale: u64, decimals_max: usize) -> Result<u64, QuantityError> {
    let (before, after) = match text.split_once('.') {
        Some((_, "")) => return Err(QuantityError::Form),
        Some((before, after)) => (before, after),
        None => (text, ""),
    };
    if after.len() > decimals_max || !after.bytes().all(|b| b.is_ascii_digit()) {
        return Err(QuantityError::Form);
    }
    let total = whole(before)?.checked_mul(scale).ok_or(QuantityError::TooLarge)?;
    let (mut rest, mut weight) = (0_u128, 1_u128);
    // Digits beyond the fifteenth are less than a byte of any amount that fits into 64 bits.
    for digit in after.bytes().take(15) {
        weight *= 10;
        rest = rest * 10 + u128::from(digit - b'0');
    }
    let share = u64::try_from(u128::from(scale) * rest / weight).unwrap_or(u64::MAX);
    total.checked_add(share).ok_or(QuantityError::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors() {
        for (text, millis) in [("0.5", 500), ("2", 2000), ("500m", 500), ("1.25", 1250), ("0.001", 1), ("1m", 1)] {
            assert_eq!(cpu_millis(text), Ok(millis), "{text}");
        }
        assert_eq!(cpu_millis("0"), Err(QuantityError::TooFewCpus));
        assert_eq!(cpu_millis("0m"), Err(QuantityError::TooFewCpus));
        for text in ["", "m", "1.", ".5", "1.2345", "0.5m", "-1", "1e3"] {
            assert_eq!(cpu_millis(text), Err(QuantityError::Form), "{text}");
        }
        assert_eq!(cpu_millis("99999999999999999999"), Err(QuantityError::TooLarge));
        assert_eq!(cpu_millis("18446744073709551615"), Err(QuantityError::TooLarge));
    }

    #[test]
    fn memory() {
        let mib = 1024 * 1024;
        for (text, bytes) in [
            ("512MiB", 512 * mib),
            ("512M", 512_000_000),
            ("1.5GiB", 1536 * mib),
            ("2 GB", 2_000_000_000),
            ("1gi", 1024 * mib),
            ("536870912", 512 * mib),
            ("536870912B", 512 * mib),
        ] {
            assert_eq!(memory_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "1XiB", "1 i", "1MiBB", "-1G"] {
            assert_eq!(memory_bytes(text), Err(QuantityError::Form), "{text}");
        }
        assert_eq!(memory_bytes("127MiB"), Err(QuantityError::TooLittleMemory));
        assert_eq!(memory_bytes("99999999999P"), Err(QuantityError::TooLarge));
    }
}
