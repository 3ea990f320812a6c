//! How many overlay networks still get a subnet from Swarm's address pool: counted, for Swarm itself says nothing before a
//! network is asked for, and then only after it was made.

use std::net::Ipv4Addr;

/// What `docker swarm init` takes when nobody says `--default-addr-pool` (its own documentation).
pub(super) const DEFAULT_POOL: &str = "10.0.0.0/8";

/// A block of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Block {
    first: u32,
    prefix: u32,
}

impl Block {
    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let prefix = prefix.parse().ok().filter(|prefix| *prefix <= u32::BITS)?;
        let address: Ipv4Addr = address.parse().ok()?;
        Some(Self { first: u32::from(address) & mask(prefix), prefix })
    }

    fn holds(self, other: Self) -> bool {
        self.prefix <= other.prefix && other.first & mask(self.prefix) == self.first
    }

    /// How many subnets of this size it is, at least one.
    fn subnets(self, size: u32) -> u64 {
        1 << size.saturating_sub(self.prefix).min(u32::BITS)
    }
}

fn mask(prefix: u32) -> u32 {
    u32::MAX.checked_shl(u32::BITS - prefix).unwrap_or(0)
}

/// The subnets of prefix length `size` that the `pools` still have when networks have `taken` these; none when a pool
/// cannot be read (IPv6), since then nothing is known.
pub(super) fn free<'a>(pools: &[String], size: u32, taken: impl IntoIterator<Item = &'a str>) -> Option<u64> {
    let pools: Vec<Block> = pools.iter().map(|pool| Block::parse(pool)).collect::<Option<_>>()?;
    if pools.is_empty() || pools.iter().any(|pool| pool.prefix > size) {
        return None;
    }
    let whole: u64 = pools.iter().map(|pool| pool.subnets(size)).sum();
    let taken = taken.into_iter().filter_map(Block::parse);
    let inside = taken.filter(|block| pools.iter().any(|pool| pool.holds(*block)));
    Some(whole.saturating_sub(inside.map(|block| block.subnets(size)).sum()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_a_pool() {
        let pools = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let small = pools(&["10.20.0.0/22"]);
        assert_eq!(free(&small, 24, []), Some(4));
        assert_eq!(free(&small, 24, ["10.20.1.0/24", "10.20.3.0/24"]), Some(2));
        assert_eq!(free(&small, 24, ["172.17.0.0/16", "10.20.4.0/24", "fd00::/64", "none"]), Some(4), "from elsewhere");
        assert_eq!(free(&small, 24, ["10.20.2.0/23"]), Some(2), "a network that asked for more");
        assert_eq!(free(&small, 24, ["10.20.0.0/23", "10.20.2.0/23", "10.20.2.0/24"]), Some(0));
        assert_eq!(free(&pools(&["10.0.0.0/8", "192.168.0.0/16"]), 24, ["10.0.0.0/24"]), Some(65_536 + 256 - 1));
        assert_eq!(free(&pools(&["0.0.0.0/0"]), 32, []), Some(1 << 32));
        assert_eq!(free(&pools(&["fd00::/48"]), 64, []), None);
        assert_eq!(free(&[], 24, []), None);
        assert_eq!(free(&pools(&["10.0.0.0/28"]), 24, []), None);
    }
}
