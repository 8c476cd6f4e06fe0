from sqlalchemy.orm import Mapper

from models.tables.base import Base
from producer.server.pages.frame import rendering, static_files, warm_up


def test_the_first_call_of_a_page_compiles_nothing() -> None:
    rendering.environment.cache_clear()
    static_files.load_files.cache_clear()

    warm_up.warm_up()

    templates = rendering.environment()
    assert templates.cache is not None
    assert len(templates.cache) == len(templates.list_templates())
    assert static_files.load_files.cache_info().currsize == 1
    mappers: list[Mapper[Base]] = list(Base.registry.mappers)
    assert mappers
    assert all(mapper.configured for mapper in mappers)
