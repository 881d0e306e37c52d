use super::*;
use proptest::prelude::*;

proptest! {
    #[test]
    fn no_listing_is_too_strange(lines in prop::collection::vec(
        "(   pool: |     id: |  state: |status: |\t|\t  |config:)?\\PC{0,30}", 0..20
    )) {
        let _ = parse(&lines.join("\n"));
    }
}
