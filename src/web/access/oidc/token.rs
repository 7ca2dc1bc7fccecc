//! ID tokens: whether the provider signed one, for us, for this login, and whether it holds now
//! (OpenID Connect Core 1.0, 3.1.3.7).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::DateTime;
use chrono::Utc;
use jiff::Timestamp;
use openidconnect::Audience;
use openidconnect::ClaimsVerificationError;
use openidconnect::ClientId;
use openidconnect::IssuerUrl;
use openidconnect::JsonWebKeySet;
use openidconnect::Nonce;
use openidconnect::SignatureVerificationError;
use openidconnect::core::CoreIdToken;
use openidconnect::core::CoreIdTokenVerifier;
use openidconnect::core::CoreJsonWebKey;
use openidconnect::core::CoreJwsSigningAlgorithm;
use serde_json::Value;

/// How far the clocks of two machines may be apart.
const LEEWAY_S: i64 = 60;

/// What asymmetric signatures there are; a shared secret signs nothing here.
const ALGORITHMS: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];

/// For whom a token has to be, and by whom.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// As the provider calls itself.
    pub issuer: &'a str,
    pub client_id: &'a str,
    pub nonce: &'a str,
    pub now: Timestamp,
}

/// Why a token proves nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unproven {
    /// For the log: no claim of the token stands in it.
    pub why: String,
    /// Newer keys of the provider may prove it.
    pub by_newer_keys: bool,
}

/// The claims of a token.
///
/// - `keys`: of the provider. A token that does not name its key is proven by whichever fits.
///
/// # Errors
/// [`Unproven`].
pub fn claims(
    token: &str,
    keys: &JsonWebKeySet<CoreJsonWebKey>,
    expected: &Expected<'_>,
) -> Result<Value, Unproven> {
    let unproven = |why: String| Unproven { why, by_newer_keys: false };
    let parsed: CoreIdToken =
        token.parse().map_err(|_| unproven("the ID token is no signed JSON Web Token".into()))?;
    let one_by_one = || keys.keys().iter().map(|key| JsonWebKeySet::new(vec![key.clone()]));
    let proven = match prove(&parsed, keys.clone(), expected) {
        Err(ClaimsVerificationError::SignatureVerification(
            SignatureVerificationError::AmbiguousKeyId(_),
        )) => one_by_one()
            .map(|key| prove(&parsed, key, expected))
            .find(|proven| !matches!(proven, Err(error) if is_of_another_key(error)))
            .unwrap_or(Err(ClaimsVerificationError::SignatureVerification(
                SignatureVerificationError::NoMatchingKey,
            ))),
        proven => proven,
    };
    proven.map_err(|error| Unproven {
        by_newer_keys: is_of_another_key(&error),
        why: in_words(&error, token),
    })?;
    let payload = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let claims: Option<Value> = payload.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let claims = claims.ok_or_else(|| unproven("the ID token holds no JSON".into()))?;
    // Made for several: then for us by name (Core 3.1.3.7, 5).
    match claims["azp"].as_str() {
        Some(party) if party != expected.client_id => {
            Err(unproven("the ID token was made for another client (azp)".into()))
        }
        _ => Ok(claims),
    }
}

fn prove(
    token: &CoreIdToken,
    keys: JsonWebKeySet<CoreJsonWebKey>,
    expected: &Expected<'_>,
) -> Result<(), ClaimsVerificationError> {
    let issuer = IssuerUrl::new(expected.issuer.to_owned())
        .map_err(|error| ClaimsVerificationError::Other(error.to_string()))?;
    let client = ClientId::new(expected.client_id.to_owned());
    let earlier = expected.now.as_second() - LEEWAY_S;
    let earlier: DateTime<Utc> = DateTime::from_timestamp(earlier, 0).unwrap_or_default();
    let verifier = CoreIdTokenVerifier::new_public_client(client, issuer, keys)
        .set_allowed_algs(ALGORITHMS)
        .set_time_fn(move || earlier)
        .set_other_audience_verifier_fn(|_: &Audience| true);
    token.claims(&verifier, &Nonce::new(expected.nonce.to_owned())).map(|_| ())
}

fn is_of_another_key(error: &ClaimsVerificationError) -> bool {
    matches!(
        error,
        ClaimsVerificationError::SignatureVerification(
            SignatureVerificationError::NoMatchingKey
                | SignatureVerificationError::CryptoError(_)
                | SignatureVerificationError::InvalidKey(_)
        )
    )
}

/// Names what was found, and no value of the token but its algorithm.
fn in_words(error: &ClaimsVerificationError, token: &str) -> String {
    use SignatureVerificationError as Signature;
    let head = token.split('.').next().and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let head: Value =
        head.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let alg: String = head["alg"].as_str().unwrap_or("nothing").chars().take(16).collect();
    match error {
        ClaimsVerificationError::Expired(_) => {
            "the ID token has expired; do the clocks of both machines agree?".into()
        }
        ClaimsVerificationError::InvalidAudience(_) => {
            "the ID token is for another client than http.oidc.client_id (aud)".into()
        }
        ClaimsVerificationError::InvalidIssuer(_) => {
            "the ID token is of another issuer than the provider calls itself (iss)".into()
        }
        ClaimsVerificationError::InvalidNonce(_) => {
            "the ID token is of another login (nonce)".into()
        }
        ClaimsVerificationError::SignatureVerification(signature) => match signature {
            Signature::DisallowedAlg(_) | Signature::UnsupportedAlg(_) => format!(
                "the ID token is signed by {alg}; only asymmetric signatures are taken (RS256, \
                 PS256, ES256, EdDSA and longer ones): give the provider a signing key"
            ),
            Signature::NoMatchingKey => {
                format!("no key of the provider (jwks_uri) signs as this ID token ({alg})")
            }
            Signature::CryptoError(_) | Signature::InvalidKey(_) => {
                format!("the signature of the ID token ({alg}) does not fit the provider's key")
            }
            other => format!("the signature of the ID token ({alg}): {other}"),
        },
        _ => "the ID token is not as the standard has it".into(),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use openidconnect::JsonWebKeyId;
    use openidconnect::PrivateSigningKey as _;
    use openidconnect::core::CoreEdDsaPrivateSigningKey;
    use openidconnect::core::CoreRsaPrivateSigningKey;
    use serde_json::json;

    use super::*;

    fn pem(arguments: &[&str]) -> String {
        let output = Command::new("openssl").arg("genpkey").args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    fn rsa(kid: Option<&str>) -> CoreRsaPrivateSigningKey {
        let pem = pem(&["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
        // The older form of the same key.
        let mut convert = Command::new("openssl");
        let mut child = convert
            .args(["rsa", "-traditional"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), pem.as_bytes()).unwrap();
        let pem = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        CoreRsaPrivateSigningKey::from_pem(&pem, kid.map(|kid| JsonWebKeyId::new(kid.into())))
            .unwrap()
    }

    /// A token of a provider.
    fn token(
        key: &impl openidconnect::PrivateSigningKey<VerificationKey = CoreJsonWebKey>,
        alg: CoreJwsSigningAlgorithm,
        kid: Option<&str>,
        claims: &Value,
    ) -> String {
        let mut head = json!({"alg": serde_json::to_value(&alg).unwrap(), "typ": "JWT"});
        if let Some(kid) = kid {
            head["kid"] = kid.into();
        }
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&head), part(claims));
        let signature = key.sign(&alg, signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    #[test]
    fn a_token_proves_who_it_is_by_any_key_of_the_provider_and_only_for_this_login() {
        use CoreJwsSigningAlgorithm as Alg;
        let now = Timestamp::from_second(1_790_000_000).unwrap();
        let expected = Expected {
            issuer: "https://login.h.example/realms/main",
            client_id: "prelim",
            nonce: "n1",
            now,
        };
        let (old, new) = (rsa(Some("k1")), rsa(Some("k2")));
        let ed =
            CoreEdDsaPrivateSigningKey::from_ed25519_pem(&pem(&["-algorithm", "ed25519"]), None);
        let ed = ed.unwrap();
        let set = |keys: Vec<CoreJsonWebKey>| {
            let mut keys = serde_json::to_value(JsonWebKeySet::new(keys)).unwrap();
            // What others publish beside: keys of kinds that nobody here knows.
            let list = keys["keys"].as_array_mut().unwrap();
            list.insert(
                0,
                json!({"kty": "OKP", "crv": "X25519", "use": "enc", "kid": "e", "x": "AA"}),
            );
            list.push(json!({"kty": "AKP", "alg": "ML-DSA-65", "kid": "pq", "pub": "AA"}));
            serde_json::from_value::<JsonWebKeySet<CoreJsonWebKey>>(keys).unwrap()
        };
        let both = set(vec![
            old.as_verification_key(),
            new.as_verification_key(),
            ed.as_verification_key(),
        ]);
        let good = json!({
            "iss": expected.issuer, "aud": "prelim", "sub": "u1", "nonce": "n1",
            "iat": now.as_second(), "exp": now.as_second() + 300, "groups": ["radiology"],
        });
        let with = |changes: Value| {
            let mut claims = good.clone();
            for (key, value) in changes.as_object().unwrap() {
                claims[key] = value.clone();
            }
            claims
        };
        let rs = Alg::RsaSsaPkcs1V15Sha256;
        for (name, token) in [
            ("its key by name", token(&old, rs.clone(), Some("k1"), &good)),
            ("no name, two keys that could", token(&new, rs.clone(), None, &good)),
            ("another algorithm", token(&new, Alg::RsaSsaPssSha512, Some("k2"), &good)),
            ("Ed25519", token(&ed, Alg::EdDsa, None, &good)),
            (
                "made for several, for us by name",
                token(
                    &old,
                    rs.clone(),
                    None,
                    &with(json!({"aud": ["prelim", "x"], "azp": "prelim"})),
                ),
            ),
            (
                "a clock that is half a minute behind",
                token(&old, rs.clone(), None, &with(json!({"exp": now.as_second() - 30}))),
            ),
        ] {
            let claims =
                claims(&token, &both, &expected).unwrap_or_else(|e| panic!("{name}: {e:?}"));
            assert_eq!(claims["groups"], json!(["radiology"]), "{name}");
        }
        let hour_ago = with(json!({"exp": now.as_second() - 3600}));
        let mut forged = token(&old, rs.clone(), Some("k1"), &good);
        forged.truncate(forged.len() - 8);
        let unsigned = |alg: &str, signature: &str| {
            let head = json!({"alg": alg, "typ": "JWT"}).to_string();
            let [head, claims] = [head, good.to_string()].map(|part| URL_SAFE_NO_PAD.encode(part));
            format!("{head}.{claims}.{signature}")
        };
        let (hs, none) = (unsigned("HS256", "AAAA"), unsigned("none", ""));
        for (token, keys, part, by_newer_keys) in [
            (token(&old, rs.clone(), None, &hour_ago), &both, "expired", false),
            (token(&old, rs.clone(), None, &with(json!({"aud": "x"}))), &both, "(aud)", false),
            (
                token(&old, rs.clone(), None, &with(json!({"iss": "https://x"}))),
                &both,
                "(iss)",
                false,
            ),
            (token(&old, rs.clone(), None, &with(json!({"nonce": "n2"}))), &both, "(nonce)", false),
            (token(&old, rs.clone(), None, &with(json!({"azp": "x"}))), &both, "(azp)", false),
            (forged, &both, "does not fit", true),
            (token(&rsa(None), rs.clone(), None, &good), &both, "no key of the provider", true),
            (
                token(&new, rs.clone(), Some("k2"), &good),
                &set(vec![old.as_verification_key()]),
                "no key of the provider",
                true,
            ),
            (hs, &both, "HS256", false),
            (none, &both, "none", false),
            ("x".to_owned(), &both, "no signed JSON Web Token", false),
        ] {
            let error = claims(&token, keys, &expected).unwrap_err();
            assert!(error.why.contains(part), "{part} in {error:?}");
            assert_eq!(error.by_newer_keys, by_newer_keys, "{error:?}");
            assert!(!error.why.contains("u1") && !error.why.contains("radiology"), "{error:?}");
        }
    }
}
