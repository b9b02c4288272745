# SPDX-License-Identifier: Apache-2.0
# What is installed beside the program, and the Debian package. The man page, completion and definitions for
# editors are told by the program itself (`tarn reference --as FORM`), so they cannot differ from it. Builds with
# sanitizers are for tests alone.
if(TARN_SANITIZE)
  return()
endif()
include(GNUInstallDirs)

function(tarn_told form file folder)
  set(out ${CMAKE_BINARY_DIR}/told/${file})
  add_custom_command(OUTPUT ${out}
    COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_BINARY_DIR}/told
    COMMAND $<TARGET_FILE:tarn> --threads 1 reference --as ${form} > ${out}.part
    COMMAND ${CMAKE_COMMAND} -E rename ${out}.part ${out}
    DEPENDS tarn VERBATIM)
  set_property(GLOBAL APPEND PROPERTY TARN_TOLD ${out})
  install(FILES ${out} DESTINATION ${folder})
endfunction()

tarn_told(man tarn.1 ${CMAKE_INSTALL_MANDIR}/man1)
tarn_told(bash tarn ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
tarn_told(zsh _tarn ${CMAKE_INSTALL_DATADIR}/zsh/vendor-completions)
tarn_told(luals tarn.lua ${CMAKE_INSTALL_DATADIR}/tarn/luals)
get_property(told GLOBAL PROPERTY TARN_TOLD)
add_custom_target(tarn_told_files ALL DEPENDS ${told})

install(DIRECTORY docs/ DESTINATION ${CMAKE_INSTALL_DOCDIR} FILES_MATCHING PATTERN "*.md")
install(FILES README.md CHANGELOG.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} RENAME copyright)
install(DIRECTORY examples DESTINATION ${CMAKE_INSTALL_DOCDIR})

# `cpack` in the build folder makes a .deb. dpkg-shlibdeps finds what the program is linked with; BLAS is opened
# when it is needed, so it is named here (an OpenMP build would be refused).
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME tarn)
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_PACKAGE_CONTACT "The authors of tarn")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "merge neural networks by Lua scripts")
set(CPACK_PACKAGE_DESCRIPTION "A Lua runtime whose scripts merge neural networks and probe the landscape of
their loss: plans over safetensors files that run in blocks, in bounded memory, and can be replayed to the byte.")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_DEPENDS "libopenblas0-pthread | libopenblas0-serial")
include(CPack)
