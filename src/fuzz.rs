//! What the fuzzer runs. The bodies are here so that every build compiles them; `fuzz/` only calls them.
