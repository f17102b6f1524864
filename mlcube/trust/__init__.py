"""Who made a cube, and whether this machine takes that for enough: keys, signatures and the policy."""

from mlcube.trust.policy import Admission, Subject, admit, no_signatures
from mlcube.trust.policy_file import Policy, PolicyFile, read_policy
from mlcube.trust.signing import Signature

__all__ = ["Admission", "Policy", "PolicyFile", "Signature", "Subject", "admit", "no_signatures", "read_policy"]
