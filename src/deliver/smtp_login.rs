//! Logging in at a mail server: by what it offers and what we have (RFC 4954; XOAUTH2, which Microsoft
//! and Google take in place of a password).

use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::authentication::Mechanism;
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::Auth;
use lettre::transport::smtp::commands::Ehlo;
use lettre::transport::smtp::extension::ClientId;

use crate::deliver::DeliverError;
use crate::deliver::peer_words;
use crate::domain::secret::Secret;

/// Challenges of one login: a server that asks for ever is left.
const CHALLENGES_MAX: usize = 10;

/// What shows who we are.
pub enum With {
    Password(Secret),
    Token(Secret),
}

impl With {
    fn mechanisms(&self) -> &'static [Mechanism] {
        match self {
            With::Password(_) => &[Mechanism::Plain, Mechanism::Login],
            With::Token(_) => &[Mechanism::Xoauth2],
        }
    }
}

/// Names after AUTH in the lines of an answer to EHLO, also in the form of before the standard
/// (`AUTH=LOGIN`).
pub fn offered<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for line in lines {
        let line = line.trim().to_ascii_uppercase();
        let Some(rest) = line.strip_prefix("AUTH").filter(|rest| rest.starts_with([' ', '=']))
        else {
            continue;
        };
        for name in rest.split([' ', '=']).filter(|name| !name.is_empty()) {
            if names.iter().all(|known| known != name) {
                names.push(peer_words(name));
            }
        }
    }
    names
}

/// Logs in.
///
/// # Errors
/// [`DeliverError::Settings`] where the server offers nothing that we can: no later try would help.
pub async fn log_in(
    server: &mut AsyncSmtpConnection,
    hello: &ClientId,
    user: &str,
    with: &With,
    failed: impl Fn(lettre::transport::smtp::Error) -> DeliverError,
) -> Result<(), DeliverError> {
    let answer = server.command(Ehlo::new(hello.clone())).await.map_err(&failed)?;
    let offered = offered(answer.message());
    let is_offered = |one: &&Mechanism| offered.contains(&one.to_string());
    let Some(mechanism) = with.mechanisms().iter().find(is_offered).copied() else {
        let offers = match offered.is_empty() {
            true => "no login".to_owned(),
            false => offered.join(", "),
        };
        let what = format!(
            "the mail server offers {offers}; this node knows PLAIN and LOGIN with a password, and \
             XOAUTH2 with token_file or oauth2"
        );
        return Err(DeliverError::Settings { what });
    };
    let secret = match with {
        With::Password(secret) | With::Token(secret) => secret.expose().to_owned(),
    };
    let credentials = Credentials::new(user.to_owned(), secret);
    let first = Auth::new(mechanism, credentials.clone(), None).map_err(&failed)?;
    let mut answer = server.command(first).await.map_err(&failed)?;
    for _challenge in 0..CHALLENGES_MAX {
        if !answer.has_code(334) {
            return Ok(());
        }
        let next = Auth::new_from_response(mechanism, credentials.clone(), &answer);
        answer = server.command(next.map_err(&failed)?).await.map_err(&failed)?;
    }
    Err(DeliverError::deferred("the mail server does not end the login"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_offers_is_read_in_both_forms() {
        for (lines, expected) in [
            (&["mail.example", "AUTH PLAIN LOGIN", "8BITMIME"][..], &["PLAIN", "LOGIN"][..]),
            (&["AUTH=LOGIN"], &["LOGIN"]),
            (&["AUTH NTLM GSSAPI", "AUTH=NTLM"], &["NTLM", "GSSAPI"]),
            (&["auth xoauth2"], &["XOAUTH2"]),
            (&["AUTHENTICATE", "STARTTLS"], &[]),
        ] {
            assert_eq!(offered(lines.iter().copied()), expected, "{lines:?}");
        }
    }
}
