//! What may happen to six devices, and how often.

use activitystreamer::base::limits::RUNS_MAX;
use proptest::prelude::*;

/// The user behind each device; two names have two devices each.
pub const USERS: [&str; 6] = ["ann", "ann", "bob", "bob", "cyd", "anonymous"];
/// The index of a device in [`USERS`].
pub type Device = usize;

/// One thing that happens. A device that is not connected connects first.
#[derive(Clone, Debug)]
pub enum Step {
    /// Connects and sends LOGIN; if it is connected, the old connection is left hanging. The kernels may
    /// take no more than so many bytes from the beginning, and the device's acknowledge nothing.
    Arrive(Device, Option<u16>, bool),
    /// Connects and speaks without a LOGIN.
    ArriveTalking(Device),
    /// LOGIN on the same connection, so many times, with a message behind each.
    LoginAgain(Device, u8),
    /// Says so many messages of so many bytes of text.
    Say(Device, u8, u16),
    /// Each of these says a message, and the server reads them all in one turn.
    SayTogether(Vec<Device>),
    /// Half of a line arrives; the rest comes before whatever the device sends next.
    SayHalf(Device),
    /// The kernels take so many more bytes, or any number.
    Room(Device, Option<u16>),
    /// The device's kernel acknowledges nothing from now on.
    AcknowledgeNothing(Device),
    /// It acknowledges so many bytes more.
    Acknowledge(Device, u16),
    /// It acknowledges everything again.
    AcknowledgeAll(Device),
    /// The connection breaks.
    Break(Device),
    /// The path breaks, and the server's kernel has noticed but not given up.
    Stall(Device),
    /// The connection that was left hanging first breaks.
    BreakHanging,
    /// LOGOUT.
    Logout(Device),
    /// The device ends its side and goes on reading.
    EndSide(Device),
    /// Sends what is no message.
    Babble(Device),
    /// So many ms pass.
    Pass(u64),
}

/// A schedule for all devices, or for few of them, which then get into deeper trouble.
pub fn schedule() -> impl Strategy<Value = Vec<Step>> {
    prop_oneof![
        1 => schedule_of((0..USERS.len()).collect()),
        1 => schedule_of(vec![0, 1, 5]),
        1 => schedule_of(vec![4, 5]),
    ]
}

/// The weights keep these devices connected most of the time, and behind some of it.
fn schedule_of(devices: Vec<Device>) -> impl Strategy<Value = Vec<Step>> {
    let device = move || prop::sample::select(devices.clone());
    let step = prop_oneof![
        4 => (device(), prop::option::weighted(0.2, 0..700u16), prop::bool::weighted(0.6))
            .prop_map(|(d, room, acknowledges)| Step::Arrive(d, room, acknowledges)),
        3 => device().prop_map(Step::ArriveTalking),
        3 => device().prop_map(|d| Step::LoginAgain(d, 1)),
        1 => device().prop_map(|d| Step::LoginAgain(d, RUNS_MAX as u8)),
        12 => (device(), 1..4u8, 0..400u16).prop_map(|(d, n, len)| Step::Say(d, n, len)),
        2 => prop::collection::vec(device(), 1..5).prop_map(Step::SayTogether),
        1 => device().prop_map(Step::SayHalf),
        5 => (device(), prop::option::weighted(0.7, 0..1500u16)).prop_map(|(d, n)| Step::Room(d, n)),
        4 => device().prop_map(Step::AcknowledgeNothing),
        3 => (device(), 0..700u16).prop_map(|(d, n)| Step::Acknowledge(d, n)),
        1 => device().prop_map(Step::AcknowledgeAll),
        4 => device().prop_map(Step::Break),
        1 => device().prop_map(Step::Stall),
        1 => Just(Step::BreakHanging),
        4 => device().prop_map(Step::Logout),
        1 => device().prop_map(Step::EndSide),
        1 => device().prop_map(Step::Babble),
        3 => (0..1500u64).prop_map(Step::Pass),
        1 => (4000..7000u64).prop_map(Step::Pass),
    ];
    // Now and then everybody who is away stays away for too long.
    let step = prop_oneof![60 => step, 1 => Just(Step::Pass(61_000))];
    prop::collection::vec(step, 1..100)
}
