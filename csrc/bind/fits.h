#pragma once

#include <Python.h>

namespace pydisent {

// Adds the function `fits` to the module.
void add_fits(PyObject* module);

}  // namespace pydisent
