"""What the pages offer to somebody, by the scopes and the tenant of their principal."""

from producer.tenants.principal import Principal, Scope


class Rights:
    """The rights of a principal, as templates ask for them."""

    __slots__ = ()

    principal: Principal

    @property
    def may_submit(self) -> bool:
        """Whether actions on batches are offered."""
        return Scope.SUBMIT in self.principal.scopes

    @property
    def may_administrate(self) -> bool:
        """Whether actions on schedules and the operator's pages are offered."""
        return Scope.ADMIN in self.principal.scopes

    @property
    def is_operator(self) -> bool:
        """Whether all tenants are shown."""
        return self.principal.tenant is None
