"""Who calls: tokens, the verifiers that judge them, roles, the cache and the audit trail."""
