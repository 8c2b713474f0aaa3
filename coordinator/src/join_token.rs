//! A join token's text: `houston-join-1.<authority>.<id>.<secret>`. The authority's SHA-256 lets a
//! machine that trusts nobody yet tell the right coordinator; the id names the token in lists; the
//! secret is known to nobody but who was told the text.

use houston_common::digest::Digest;
use houston_common::error::{Code, Refusal};

const PREFIX: &str = "houston-join-1.";

/// Random bytes of the secret: 256 bits, so that nobody needs to wonder.
const SECRET_BYTES: usize = 32;
/// Random bytes of the id: enough that no two tokens share one.
const ID_BYTES: usize = 5;

/// A token that was just made. Only its text has the secret.
pub struct NewToken {
    pub id: String,
    /// SHA-256 of the secret: all that is kept.
    pub secret: Digest,
    pub text: String,
}

impl std::fmt::Debug for NewToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewToken").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Makes a token for the authority with this fingerprint.
pub fn new(authority: Digest) -> Result<NewToken, Refusal> {
    let id = data_encoding::HEXLOWER.encode(&random::<ID_BYTES>()?);
    let secret = data_encoding::HEXLOWER.encode(&random::<SECRET_BYTES>()?);
    let text = format!("{PREFIX}{authority}.{id}.{secret}");
    Ok(NewToken { id, secret: Digest::of(secret.as_bytes()), text })
}

/// What a shown text is compared by: the id, and the secret's SHA-256. E-TOKEN for what is no token.
pub fn read(text: &str) -> Result<(String, Digest), Refusal> {
    let parts = text.strip_prefix(PREFIX).map(|rest| rest.split('.').collect::<Vec<_>>());
    match parts.as_deref() {
        Some([authority, id, secret])
            if authority.parse::<Digest>().is_ok() && is_word(id) && is_word(secret) =>
        {
            Ok(((*id).to_owned(), Digest::of(secret.as_bytes())))
        }
        _ => Err(not_accepted()),
    }
}

/// The one refusal of a token, whatever is wrong with it.
pub fn not_accepted() -> Refusal {
    Refusal::new(Code::Token, "the join token was not accepted", "make a new one with `houston token create`")
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// Random bytes from the kernel.
pub fn random<const N: usize>() -> Result<[u8; N], Refusal> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| Refusal::internal(format!("no random numbers: {error}")))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_leads_back_to_what_is_kept() {
        let authority = Digest::of(b"authority");
        let token = new(authority).expect("random numbers");
        assert_eq!(read(&token.text), Ok((token.id.clone(), token.secret)));
        assert!(token.text.contains(&authority.to_string()));
        assert!(token.text.len() <= houston_common::api::convert::SECRET_BYTES_MAX);
        let secret = token.text.rsplit('.').next().expect("a secret");
        assert!(!format!("{token:?}").contains(secret));
        assert_ne!(new(authority).expect("random numbers").text, token.text);
    }

    #[test]
    fn anything_else_is_refused_alike() {
        let authority = Digest::of(b"authority");
        for text in [
            String::new(),
            "houston-join-1.".to_owned(),
            format!("houston-join-2.{authority}.a.b"),
            format!("houston-join-1.{authority}.a"),
            format!("houston-join-1.{authority}..b"),
            format!("houston-join-1.{authority}.a.b.c"),
            "houston-join-1.abc.a.b".to_owned(),
            format!("houston-join-1.{authority}.a/b.c"),
        ] {
            assert_eq!(read(&text), Err(not_accepted()), "{text}");
        }
    }
}
