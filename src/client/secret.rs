//! Secrets made here, and who a name and a secret say the client is.

use zeroize::Zeroizing;

use super::machine::{ANONYMOUS, Mode};

/// Characters of a generated secret, of 5 bits each, as existing clients make them.
const SECRET_CHARS: usize = 26;

/// Nobody or `anonymous` without a secret is anonymous; a name with a secret logs in; one without is
/// registered with a secret made here.
///
/// # Errors
/// A sentence that says what to do: a secret without a name, or no randomness to make one of.
pub(super) fn mode(name: Option<&str>, secret: Option<Zeroizing<String>>) -> Result<Mode, String> {
    match (name.map(str::to_owned), secret) {
        (None, None) => Ok(Mode::Anonymous),
        (Some(name), None) if name == ANONYMOUS => Ok(Mode::Anonymous),
        (Some(name), Some(secret)) => Ok(Mode::Login { name, secret }),
        (Some(name), None) => Ok(Mode::Register { name, secret: fresh()? }),
        (None, Some(_)) => Err("a secret needs a name".to_owned()),
    }
}

/// A new secret: base 32, so that every terminal, shell and person takes it as it is.
fn fresh() -> Result<Zeroizing<String>, String> {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut bytes = Zeroizing::new([0; SECRET_CHARS]);
    getrandom::fill(&mut *bytes)
        .map_err(|error| format!("cannot make a secret: {error}; give one, with -s on the command line"))?;
    Ok(Zeroizing::new(bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte & 31)])).collect()))
}
