use super::*;

#[test]
fn the_host_of_an_address() {
    assert_eq!(host("pacs.example:104"), "pacs.example");
    assert_eq!(host("[::1]:104"), "::1");
    assert_eq!(host("10.0.0.1:2762"), "10.0.0.1");
}
