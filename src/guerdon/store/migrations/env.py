"""What Alembic runs: the migrations, in the transaction of the connection that `schema.migrate` hands over."""

from alembic import context

from guerdon.store.annotation_tables import metadata
from guerdon.store.schema import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
