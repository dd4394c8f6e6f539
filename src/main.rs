use activitystreamer::server::*;
fn main(){
    env_logger::init();
    let port = std::env::args().nth(1).and_then(|p| p.parse().ok()).unwrap_or(3780);
    let mut limits = activitystreamer::base::limits::Limits::default();
    limits.hash_kib=8; limits.hash_passes=1;
    let s = Server::new(&Options{bind:Bind::Loopback, port, limits}).unwrap();
    s.run().unwrap();
}
