use super::*;

const LIMITS: Limits = Limits {
    queues: 16,
    vectors: 64,
    max_frame: 15_872,
};

#[test]
fn flow_groups_are_dealt_out_in_turn() {
    let rss = Rss::even(3);
    assert_eq!(rss.reta[..7], [0, 1, 2, 0, 1, 2, 0]);
    assert_eq!(rss.queue_of(0xffff_ff80 + 5), 2);
    assert_eq!(Rss::even(1).reta, [0; RETA_ENTRIES]);
}

#[test]
fn segments_of_the_verification_suite_arrive_where_the_table_says() {
    let source = (0x4209_95bb, 2794);
    let destination = (0xa18e_6450, 1766);
    let steering = Steering::new(&Rss::even(16));
    assert_eq!(
        steering.queue_of_tcp(source, destination),
        0x51cc_c178_u32 as u8 % 16
    );
    let address = |text: &str| text.parse::<core::net::Ipv6Addr>().unwrap().octets();
    let source = (address("3ffe:2501:200:1fff::7"), 2794);
    let destination = (address("3ffe:2501:200:3::1"), 1766);
    assert_eq!(
        steering.queue_of_tcp_ipv6(source, destination),
        0x4020_7d3d_u32 as u8 % 16
    );
}

#[test]
fn impossible_configurations_are_named() {
    assert_eq!(
        Config::new(0).check(&LIMITS),
        Err(Error::QueueCount { queues: 0, max: 16 })
    );
    assert_eq!(
        Config::new(17).check(&LIMITS),
        Err(Error::QueueCount {
            queues: 17,
            max: 16
        })
    );
    let mut config = Config::new(2);
    config.mtu = 15_851;
    assert!(matches!(
        config.check(&LIMITS),
        Err(Error::Mtu { max: 15_850, .. })
    ));
    config.mtu = 9000;
    assert_eq!(config.check(&LIMITS), Ok(()));
    config.rss.reta[5] = 2;
    assert_eq!(
        config.check(&LIMITS),
        Err(Error::Redirection {
            entry: 5,
            queue: 2,
            queues: 2
        })
    );
}

#[test]
fn a_tag_is_priority_and_vlan() {
    assert_eq!(VlanTag::new(100, 3).map(VlanTag::control), Some(0x6064));
    for (id, priority) in [(0, 0), (4095, 0), (1, 8)] {
        assert_eq!(VlanTag::new(id, priority), None);
    }
}

#[test]
fn buffers_must_hold_the_longest_frame_with_its_tag() {
    let mut config = Config::new(1);
    let mut pool = MbufGeometry {
        count: 1,
        size_shift: 11,
        bus: 0,
        user: 0,
    };
    assert_eq!(config.check_buffers(&pool), Ok(()));
    config.mtu = 2048 - 22;
    assert_eq!(config.check_buffers(&pool), Ok(()));
    config.mtu += 1;
    assert!(config.check_buffers(&pool).is_err());
    pool.size_shift = 15;
    assert!(config.check_buffers(&pool).is_err());
}
