"""Networks, the bundles they are kept in, the store of bundles, and the device they run on."""
