//! The parameters that are in force in a server, packed: a world of thousands keeps them, and mostly nobody looks.
//!
//! Invariant: what was packed comes out again; no name and no value holds a zero byte, as in Postgres.

use std::collections::BTreeMap;

/// Parameters by name, as one text: `name\0value\0`…
#[derive(Debug, Clone)]
pub(super) struct InForce(Box<str>);

impl InForce {
    /// Packs them.
    pub(super) fn packed(parameters: &BTreeMap<String, String>) -> Self {
        Self(
            parameters
                .iter()
                .flat_map(|(name, value)| [name.as_str(), "\0", value.as_str(), "\0"])
                .collect::<String>()
                .into(),
        )
    }

    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut texts = self.0.split_terminator('\0');
        std::iter::from_fn(move || texts.next().zip(texts.next()))
    }

    /// The value of one.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.pairs().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// All of them by name.
    pub(super) fn all(&self) -> BTreeMap<String, String> {
        self.pairs().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_out_again() {
        let pairs = [("a", ""), ("b", "1"), ("c", "x y"), ("d", "")];
        let parameters: BTreeMap<String, String> =
            pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let packed = InForce::packed(&parameters);
        assert_eq!(packed.all(), parameters);
        assert_eq!((packed.get("c"), packed.get("d"), packed.get("e")), (Some("x y"), Some(""), None));
        assert_eq!(InForce::packed(&BTreeMap::new()).all(), BTreeMap::new());
    }
}
