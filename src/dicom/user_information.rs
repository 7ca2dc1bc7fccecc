//! The user information of an A-ASSOCIATE-RQ (PS3.7 D.3.3). Read here, because dicom-ul refuses
//! a whole request for one sub-item that it does not like and knows some of them not at all.

use std::fmt;

use crate::dicom::pdu::Items;

/// What the requestor says of itself and asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserInformation {
    /// 0: no limit, also where it says none.
    pub pdu_bytes_max: u32,
    pub implementation_class_uid: String,
    pub implementation_version: String,
    /// Whether it asks for more than one operation at a time.
    pub asynchronous: bool,
    pub roles: Vec<Role>,
    pub extended: Vec<Extended>,
    pub identity: Option<Identity>,
}

/// SCP/SCU role selection for one SOP class (D.3.3.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    pub sop_class_uid: String,
    pub scu: bool,
    pub scp: bool,
}

/// SOP class extended negotiation (D.3.3.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extended {
    pub sop_class_uid: String,
    pub information: Vec<u8>,
}

/// User identity (D.3.3.7). Its fields are never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    pub kind: IdentityKind,
    pub response_wanted: bool,
    pub primary: Vec<u8>,
    pub secondary: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdentityKind {
    UserName,
    UserNameAndPasscode,
    Kerberos,
    Saml,
    JsonWebToken,
    /// A type of a later edition, or an item that cannot be read.
    Other,
}

impl IdentityKind {
    fn of(code: u8) -> IdentityKind {
        match code {
            1 => IdentityKind::UserName,
            2 => IdentityKind::UserNameAndPasscode,
            3 => IdentityKind::Kerberos,
            4 => IdentityKind::Saml,
            5 => IdentityKind::JsonWebToken,
            _ => IdentityKind::Other,
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({:?})", self.kind)
    }
}

impl UserInformation {
    /// Reads the body of the item 50H. Sub-items that are not known, and those whose inside does
    /// not fit, are passed over (PS3.8 9.3.1); of an identity at least its presence is kept.
    ///
    /// None where a sub-item overruns the item (P14).
    pub fn parse(body: &[u8]) -> Option<UserInformation> {
        let mut user = UserInformation::default();
        for item in Items(body) {
            let (kind, body) = item?;
            match kind {
                0x51 => {
                    let bytes: Option<[u8; 4]> = body.try_into().ok();
                    user.pdu_bytes_max = bytes.map_or(user.pdu_bytes_max, u32::from_be_bytes);
                }
                0x52 => user.implementation_class_uid = text(body, 64),
                0x53 => user.asynchronous |= body != [0, 1, 0, 1],
                0x54 => user.roles.extend(role(body)),
                0x55 => user.implementation_version = text(body, 16),
                0x56 => user.extended.extend(extended(body)),
                0x58 => user.identity = Some(identity(body)),
                _ => {} // 57H, common extended negotiation, has no answer
            }
        }
        Some(user)
    }
}

/// Printable, without padding, and no longer than it may be.
fn text(body: &[u8], characters_max: usize) -> String {
    let text: String = body.iter().map(|&b| char::from(b)).collect();
    let text = text.trim_matches([' ', '\0']);
    text.chars().filter(|c| matches!(c, ' '..='~')).take(characters_max).collect()
}

/// A field after its 16-bit length, and what follows it.
fn field(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

fn role(body: &[u8]) -> Option<Role> {
    let (uid, roles) = field(body)?;
    let &[scu, scp] = roles else { return None };
    Some(Role { sop_class_uid: text(uid, 64), scu: scu == 1, scp: scp == 1 })
}

fn extended(body: &[u8]) -> Option<Extended> {
    let (uid, information) = field(body)?;
    Some(Extended { sop_class_uid: text(uid, 64), information: information.to_vec() })
}

fn identity(body: &[u8]) -> Identity {
    let read = || {
        let (&[kind, wanted], rest) = body.split_first_chunk::<2>()?;
        let (primary, rest) = field(rest)?;
        let (secondary, rest) = field(rest)?;
        rest.is_empty().then(|| Identity {
            kind: IdentityKind::of(kind),
            response_wanted: wanted == 1,
            primary: primary.to_vec(),
            secondary: secondary.to_vec(),
        })
    };
    read().unwrap_or(Identity {
        kind: IdentityKind::Other,
        response_wanted: false,
        primary: Vec::new(),
        secondary: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::pdu::tests::item;

    fn sized(bytes: &[u8]) -> Vec<u8> {
        [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
    }

    #[test]
    fn each_sub_item_is_read_and_strange_ones_are_passed_over() {
        let class = b"1.2.840.10008.5.1.4.1.1.2";
        let all = [
            item(0x51, &65536_u32.to_be_bytes()),
            item(0x52, b"1.2.3\0"),
            item(0x53, &[0, 5, 0, 5]),
            item(0x54, &[sized(class), vec![1, 1]].concat()),
            item(0x54, &[0, 200, 1]),
            item(0x55, b"SCANNER 7\x1b[31m "),
            item(0x56, &[sized(class), vec![2, 0, 3, 0, 1, 0]].concat()),
            item(0x57, b"?"),
            item(0x58, &[vec![2, 1], sized(b"joe"), sized(b"secret")].concat()),
            item(0x7F, &[1, 2, 3]),
        ];
        let user = UserInformation::parse(&all.concat()).unwrap();
        assert_eq!(user.pdu_bytes_max, 65536);
        assert_eq!(user.implementation_class_uid, "1.2.3");
        assert_eq!(user.implementation_version, "SCANNER 7[31m");
        assert!(user.asynchronous);
        let ct = String::from_utf8_lossy(class).into_owned();
        assert_eq!(user.roles, [Role { sop_class_uid: ct.clone(), scu: true, scp: true }]);
        assert_eq!(
            user.extended,
            [Extended { sop_class_uid: ct, information: vec![2, 0, 3, 0, 1, 0] }]
        );
        let identity = user.identity.unwrap();
        assert_eq!(identity.kind, IdentityKind::UserNameAndPasscode);
        assert_eq!((&identity.primary[..], &identity.secondary[..]), (&b"joe"[..], &b"secret"[..]));
        assert!(!format!("{identity:?}").contains("joe"));
    }

    #[test]
    fn an_identity_that_cannot_be_read_is_still_one() {
        for broken in [&[][..], &[1], &[1, 0, 0], &[1, 0, 0, 9, 1], &[1, 0, 0, 0, 0, 0, 7]] {
            let user = UserInformation::parse(&item(0x58, broken)).unwrap();
            assert_eq!(user.identity.unwrap().kind, IdentityKind::Other, "{broken:?}");
        }
        assert_eq!(UserInformation::parse(&[0x51, 0, 0, 9, 1]), None, "an item overruns");
    }
}
