//! What is on disk comes back as it was, or not at all: whatever the disk does.

mod disk;
mod journal;
mod records;
mod stage;
mod whole;
