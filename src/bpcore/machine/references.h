/* For Python without the GIL, where there is no limited API: references are counted by calls, as with it, and not in
 * place, where each takes a dozen instructions. A tenth of a module; and whole numbers are read through the API, too. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#ifdef Py_GIL_DISABLED
#define CYTHON_USE_PYLONG_INTERNALS 0
#undef Py_INCREF
#undef Py_DECREF
#undef Py_XINCREF
#undef Py_XDECREF
#define Py_INCREF(object) Py_IncRef((PyObject *)(object))
#define Py_DECREF(object) Py_DecRef((PyObject *)(object))
#define Py_XINCREF(object) Py_IncRef((PyObject *)(object))
#define Py_XDECREF(object) Py_DecRef((PyObject *)(object))
#endif
