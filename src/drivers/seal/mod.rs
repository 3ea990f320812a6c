//! Sealing: XChaCha20-Poly1305 with the fleet key, for records that leave this host's 0600 files.
