//! Who may associate, and what is agreed on: the whole program against real requestors.

use std::process::Command;
use std::process::Output;
use std::process::Stdio;

use crate::node::Node;
use crate::node::PRELIM;
use crate::node::pydicom_file;
use crate::node::python;
use crate::node::run;
use crate::node::said;

fn output(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"))
}

fn storescu(node: &Node, options: &[&str]) -> Output {
    let port = node.dicom.port().to_string();
    let mut storescu = Command::new("storescu");
    storescu.args(["-v", "-aec", "PRELIM"]).args(options).args(["127.0.0.1", &port]);
    output(storescu.arg(pydicom_file("CT_small.dcm")))
}

fn script(node: &Node, text: &str) {
    let port = node.dicom.port().to_string();
    run(Command::new(python()).args(["-c", text, &port]).arg(pydicom_file("CT_small.dcm")));
}

const NEGOTIATION: &str = "
import sys, pydicom
from pynetdicom import AE, build_role
from pynetdicom.pdu_primitives import *
from pydicom.uid import *
port, path = int(sys.argv[1]), sys.argv[2]
CT, MR = '1.2.840.10008.5.1.4.1.1.2', '1.2.840.10008.5.1.4.1.1.4'
ae = AE(ae_title='NEGOTIATOR')
# Several contexts of one SOP class, each with its own answer.
ae.add_requested_context(CT, ImplicitVRLittleEndian)
ae.add_requested_context(CT, [ImplicitVRLittleEndian, ExplicitVRLittleEndian, JPEGLSLossless])
ae.add_requested_context(CT, '1.2.3.4')
ae.add_requested_context(MR)
ae.add_requested_context('1.2.826.0.1.3680043.9.1')
window = AsynchronousOperationsWindowNegotiation()
window.maximum_number_operations_invoked, window.maximum_number_operations_performed = 5, 5
extended = SOPClassExtendedNegotiation()
extended.sop_class_uid, extended.service_class_application_information = CT, b'\\x02\\x00\\x00\\x00\\x01\\x00'
common = SOPClassCommonExtendedNegotiation()
common.sop_class_uid, common.service_class_uid = CT, '1.2.840.10008.4.2'
items = [build_role(CT, scu_role=True, scp_role=True), build_role(MR, scp_role=True), window, extended, common]
a = ae.associate('127.0.0.1', port, ae_title='PRELIM', ext_neg=items)
assert a.is_established
assert [(c.context_id, c.transfer_syntax[0]) for c in a.accepted_contexts] == [
    (1, ImplicitVRLittleEndian), (3, JPEGLSLossless)], a.accepted_contexts
assert [(c.context_id, c.result) for c in a.rejected_contexts] == [(5, 4), (7, 1), (9, 3)], a.rejected_contexts
assert all(c.as_scu and not c.as_scp for c in a.accepted_contexts)
acceptor = a.acceptor
assert acceptor.asynchronous_operations == (1, 1)
assert acceptor.sop_class_extended == {CT: b'\\x02\\x00\\x03\\x00\\x00\\x00'}, acceptor.sop_class_extended
assert acceptor.sop_class_common_extended == {}
roles = {uid: (role.scu_role, role.scp_role) for uid, role in acceptor.role_selection.items()}
assert roles == {CT: (True, False), MR: (False, False)}, roles
assert acceptor.maximum_length == 131072
a.release()
# Every storage class that pynetdicom knows, in a requestor of its own.
from pynetdicom import StoragePresentationContexts
ae = AE(ae_title='ALL')
ae.requested_contexts = StoragePresentationContexts[:128]
a = ae.associate('127.0.0.1', port, ae_title='PRELIM')
print([(c.context_id, c.abstract_syntax, c.result) for c in a.rejected_contexts])
assert len(a.accepted_contexts) == len(ae.requested_contexts) >= 120
a.release()
";

#[test]
fn what_is_negotiated_is_answered_as_the_standard_says() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path(), &[]);
    script(&node, NEGOTIATION);
}

const PRIVATE: &str = "
import sys, pydicom
from pynetdicom import AE
port, path = int(sys.argv[1]), sys.argv[2]
ae = AE(ae_title='PRIVATE')
ae.add_requested_context('1.2.826.0.1.3680043.9.1')
ae.add_requested_context('1.2.840.10008.5.1.4.1.2.2.1')
a = ae.associate('127.0.0.1', port, ae_title='PRELIM')
assert [c.abstract_syntax for c in a.accepted_contexts] == ['1.2.826.0.1.3680043.9.1']
ds = pydicom.dcmread(path)
ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = '1.2.826.0.1.3680043.9.1'
assert a.send_c_store(ds).Status == 0
a.release()
";

/// P72, switched on: kept, and a state that says that nobody reads it.
#[test]
fn an_instance_of_a_private_class_is_kept_where_that_is_switched_on() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path(), &["dicom.unknown_sop_classes=true"]);
    script(&node, PRIVATE);
    let uid = pydicom_study();
    let study = crate::node::wait_for("the end of its way", || {
        let mut command = Command::new(PRELIM);
        let found = output(command.args(["study", &uid, "--json", "--data"]).arg(&node.data));
        let text = String::from_utf8_lossy(&found.stdout).into_owned();
        text.contains("\"outcome\"").then_some(text)
    });
    assert!(study.contains("\"outcome\": \"not_covered\""), "{study}");
}

/// Study Instance UID of CT_small.dcm.
fn pydicom_study() -> String {
    let print = "import sys, pydicom; print(pydicom.dcmread(sys.argv[1]).StudyInstanceUID)";
    let read = run(Command::new(python()).args(["-c", print]).arg(pydicom_file("CT_small.dcm")));
    String::from_utf8_lossy(&read.stdout).trim().to_owned()
}

const IDENTITIES: &str = "
import sys
from pynetdicom import AE
from pynetdicom.pdu_primitives import UserIdentityNegotiation
port, path = int(sys.argv[1]), sys.argv[2]
ae = AE(ae_title='IDENTITY')
ae.add_requested_context('1.2.840.10008.1.1')
def ask(kind, primary, secondary=b'', answer=True):
    identity = UserIdentityNegotiation()
    identity.user_identity_type = kind
    identity.positive_response_requested = answer
    identity.primary_field = primary
    if kind == 2:
        identity.secondary_field = secondary
    a = ae.associate('127.0.0.1', port, ae_title='PRELIM', ext_neg=[identity])
    if a.is_established:
        said = a.acceptor.user_identity
        assert (said is not None) == answer
        assert a.send_c_echo().Status == 0
        a.release()
        return True
    assert a.is_rejected
    rejection = a.acceptor.primitive
    found = (rejection.result, rejection.result_source, rejection.diagnostic)
    assert found == (1, 1, 1), found
    return False
assert ask(1, b'open') and ask(1, b'open', answer=False)
assert ask(2, b'ct', b'right')
assert not ask(1, b'ct'), 'a name without its passcode'
assert not ask(2, b'ct', b'wrong')
assert not ask(2, b'nobody', b'right')
for kind in (3, 4, 5):
    assert not ask(kind, b'ticket'), kind
";

/// User identity, types 1 to 5, by two toolkits.
#[test]
fn users_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let mut hash = Command::new(PRELIM);
    hash.arg("hash-password").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut hash = hash.spawn().unwrap();
    std::io::Write::write_all(&mut hash.stdin.take().unwrap(), b"right\n").unwrap();
    let hash = hash.wait_with_output().unwrap();
    let hash = String::from_utf8_lossy(&hash.stdout).trim().to_owned();
    assert!(hash.starts_with("$argon2id$"), "{hash}");
    let ct = format!("dicom.users.ct.password_hash=\"{hash}\"");
    let settings = [&ct[..], "dicom.users.open={}", "dicom.user_identity_required=true"];
    let node = Node::start(folder.path(), &settings);
    script(&node, IDENTITIES);
    let good = storescu(&node, &["-usr", "ct", "-pwd", "right", "-rsp"]);
    assert!(good.status.success(), "{}", said(&good));
    assert!(storescu(&node, &["-usr", "open", "-rsp"]).status.success());
    for bad in [&["-usr", "ct", "-pwd", "wrong"][..], &["-usr", "ct"], &[]] {
        let refused = storescu(&node, bad);
        assert!(!refused.status.success(), "{bad:?}");
        assert!(said(&refused).contains("No Reason"), "{bad:?} {}", said(&refused));
    }
    // The passcode, its hash, and a wrong name stand nowhere.
    let log = std::fs::read_to_string(node.data.join("log.txt")).unwrap();
    assert!(!log.contains("argon2") && !log.contains("nobody"), "{log}");
    assert!(log.contains("user identity"), "{log}");
}
