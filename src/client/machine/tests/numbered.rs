//! A client with an id.

use super::*;
use crate::client::ids::Ids;

#[test]
fn what_a_server_does_not_know_is_said_again_and_what_was_heard_is_not_told_again() {
    let client = Client::with_ids(Mode::Anonymous, Ids::new([0x11; 16]));
    let client = play_on(
        client,
        r#"
        say {"n":1}
        ! connected
        > {"command":"LOGIN","username":"anonymous","ext":{"client":"11111111111111111111111111111111","from":1}}
        < {"command":"LOGIN_SUCCESS","info":"in","ext":{"id":"aa","cseq":0,"lost":0,"at":{"00000000000000a1":4},"servers":[]}}
        = LoggedIn { info: "in" }
        > {"command":"ACTIVITY_MESSAGE","username":"anonymous","cseq":1,"activity":{"n":1}}
        say {"n":2}
        > {"command":"ACTIVITY_MESSAGE","username":"anonymous","cseq":2,"activity":{"n":2}}
        < {"command":"MESSAGE_ACK","cseq":1}
        = Acknowledged { cseq: 1 }
        < {"command":"NEXT","ids":[["00000000000000a1",5,2]]}
        = Announced
        < {"command":"ACTIVITY_BROADCAST","activity":{"a":1}}
        = Broadcast { activity: "{\"a\":1}" }
        say {"n":3}
        ! closed Lost
        ! connected
        > {"command":"LOGIN","username":"anonymous","ext":{"client":"11111111111111111111111111111111","from":1,"at":{"00000000000000a1":5}}}
        < {"command":"LOGIN_SUCCESS","info":"in","ext":{"id":"aa","cseq":1,"lost":0,"at":{"00000000000000a1":5},"servers":[{"hostname":"b","port":2}]}}
        = LoggedIn { info: "in" }
        > {"command":"ACTIVITY_MESSAGE","username":"anonymous","cseq":2,"activity":{"n":2}}
        > {"command":"ACTIVITY_MESSAGE","username":"anonymous","cseq":3,"activity":{"n":3}}
        < {"command":"NEXT","ids":[["00000000000000a1",5,2]]}
        < {"command":"ACTIVITY_BROADCAST","activity":{"a":1}}
        = Repeated
        < {"command":"ACTIVITY_BROADCAST","activity":{"a":2}}
        = Broadcast { activity: "{\"a\":2}" }
        < {"command":"ACTIVITY_BROADCAST","activity":{"a":3}}
        = Malformed { why: "a broadcast without a NEXT" }
        ! end
        < {"command":"MESSAGE_ACK","cseq":3}
        = Acknowledged { cseq: 3 }
        > {"command":"LOGOUT"}
        ! closed LoggedOut
        "#,
    );
    assert_eq!(client.ids().map(|ids| ids.servers()), Some(&[("b".to_owned(), 2)][..]));
}

#[test]
fn a_server_without_ids_is_not_taken_for_one() {
    play_on(
        Client::with_ids(Mode::Anonymous, Ids::new([0x11; 16])),
        r#"
        ! connected
        > {"command":"LOGIN","username":"anonymous","ext":{"client":"11111111111111111111111111111111","from":1}}
        < {"command":"LOGIN_SUCCESS","info":"in"}
        = Invalid { info: "this server knows no clients with ids" }
        ! closed Lost
        "#,
    );
}
